#!/bin/busybox sh
# /init of the emulated host: loads KVM, runs the jobs one after the other, powers off. What the
# jobs print goes to the second serial port, so that this kernel's own messages stay out of it:
#   @@start 0 … @@end 0 STATUS … @@off
export PATH=/bin HOME=/tmp

# The kernel unpacks an initramfs into a root that pivot_root(2) refuses; a tmpfs is like any disk.
if [ -z "$MOVED" ]; then
  /bin/busybox mkdir -p /root
  /bin/busybox mount -t tmpfs -o size=90% root /root
  for entry in /*; do
    [ "$entry" = /root ] || /bin/busybox cp -a "$entry" /root/
  done
  MOVED=1 exec /bin/busybox switch_root /root /init
fi

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts /run
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ip link set lo up

for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
[ ! -e /dev/vda ] || mount -t ext4 /dev/vda /disks

stty -F /dev/ttyS1 raw -echo
# Whether this kernel lives, which host-watch.ts looks for.
while echo "<2>host: alive" >/dev/kmsg; do sleep 3; done &
for job in $(ls /jobs | sort -n); do
  {
    echo "@@start $job"
    sh "/jobs/$job" </dev/null 2>&1
    status=$?
    printf '\n@@end %s %s\n' "$job" "$status"
  } | cat >/dev/ttyS1
done
echo "@@off" >/dev/ttyS1
poweroff -f

#!/bin/busybox sh
# /init of the emulated host: loads KVM, runs the jobs one after the other, powers off. What the
# jobs print goes to the second serial port, so that this kernel's own messages stay out of it:
#   @@start 0 … @@end 0 STATUS … @@off
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /tmp /dev/shm /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ip link set lo up

for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done

stty -F /dev/ttyS1 raw -echo
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

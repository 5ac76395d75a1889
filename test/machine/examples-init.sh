#!/bin/busybox sh
# /init of the guest that uses the devices of devices-as/examples/ with the kernel's own drivers,
# says what became of it, and powers off. What it waits for has a limit, so that one device that
# does not answer keeps no other from being tried.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null

for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done

echo "guest: kernel $(uname -r), $(nproc) cpus, up $(cut -d' ' -f1 /proc/uptime) s"
echo "guest: rng_current $(cat /sys/class/misc/hw_random/rng_current)"
# A sign of life for tries.ts, as in guest-init.sh.
while sleep 3; do echo "<2>guest: alive" >/dev/kmsg; done &

# The disk that calls itself $1.
disk() {
  for each in /sys/block/vd*; do
    [ "$(cat "$each/serial")" = "$1" ] && echo "${each##*/}"
  done
}

# Says "same" of two files that are, and have something in them.
compare() {
  if [ -s "$1" ] && cmp -s "$1" "$2"; then echo same; else echo differs; fi
}

ramdisk() {
  name=$(disk ramdisk)
  echo "guest: ramdisk $(cat "/sys/block/$name/size") sectors"
  head -c 200000 /dev/urandom >/written
  dd if=/written of="/dev/$name" bs=4k seek=10 conv=fsync 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
  dd if="/dev/$name" bs=4k skip=10 count=49 2>/dev/null | head -c 200000 >/read
  echo "guest: ramdisk $(compare /written /read)"
}

echo_() {
  exec 3<>/dev/hvc0
  # As it is at first, a terminal says back what it hears, and so does the device: for ever.
  stty -F /dev/hvc0 raw -echo
  timeout 30 head -c 6000 <&3 >/heard &
  head -c 6000 /dev/urandom >/said
  cat /said >&3
  wait $!
  echo "guest: echo $(compare /said /heard)"
  exec 3>&-
}

mixer() {
  head -c 4096 /dev/hwrng >/sample
  # Random bytes do not compress: what gzip makes of them is larger than they are.
  echo "guest: mixer $(stat -c %s /sample) bytes, gzipped $(gzip -c /sample | wc -c)"
}

# Reads every block by itself, around the page cache, and writes the last one.
flaky() {
  name=$(disk flaky)
  blocks=$(($(cat "/sys/block/$name/size") / 8))
  yes example | head -c 4096 >/block
  failed=0 same=0
  for i in $(seq 0 $((blocks - 1))); do
    if ! dd if="/dev/$name" of=/read bs=4k count=1 skip="$i" iflag=direct 2>/dev/null; then
      failed=$((failed + 1))
    elif [ "$(compare /block /read)" = same ]; then
      same=$((same + 1))
    fi
  done
  echo "guest: flaky $failed of $blocks failed, $same were right"
  dd if=/written of="/dev/$name" bs=4k count=1 seek=$((blocks - 1)) conv=fsync 2>/dev/null
  echo "guest: flaky written $(head -c 4096 /written | sha256sum | cut -c1-64)"
}

# Waits for the events of "Hi" and Enter, which the host types when it reads that it may.
keyboard() {
  # The power button is an input device, too.
  name=$(grep -l Bulkhead /sys/class/input/event*/device/name)
  event=${name#/sys/class/input/}
  echo "guest: keyboard $(cat "$name")"
  exec 4<"/dev/input/${event%%/*}"
  echo "guest: keyboard listens"
  timeout 60 head -c $((14 * 24)) <&4 >/events
  exec 4<&-
  # struct input_event is a time of 16 bytes, type, code and value (linux/input.h).
  echo "guest: keyboard $(od -A n -v -t u2 -w24 /events | awk '{ print $9, $10, $11 }' | xargs)"
}

ramdisk
echo_
mixer
flaky
keyboard

grep -i virtio /proc/interrupts | sed 's/^/guest: interrupts /'
echo "guest: done"
poweroff -f

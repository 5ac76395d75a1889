#!/bin/busybox sh
# /init of the guest under test: loads the virtio drivers, looks whether entropy comes from the
# virtio device and powers off. `test.bytes=N` on the kernel command line says how much to read.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null

bytes=1048576
for word in $(cat /proc/cmdline); do
  case $word in test.bytes=*) bytes=${word#*=} ;; esac
done

for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done

echo "guest: kernel $(uname -r), $(nproc) cpus, up $(cut -d' ' -f1 /proc/uptime) s"
echo "guest: online $(cat /sys/devices/system/cpu/online), $(grep MemTotal /proc/meminfo | tr -s ' ')"
clock=/sys/devices/system/clocksource/clocksource0/current_clocksource
echo "guest: clock $(cat "$clock"), epoch $(date +%s)"
[ ! -c /dev/hvc0 ] || echo "this is $(uname -s) on its console" >/dev/hvc0
echo "guest: rng_available $(cat /sys/class/misc/hw_random/rng_available)"
echo "guest: rng_current $(cat /sys/class/misc/hw_random/rng_current)"
# Whether this kernel lives, said by its timer and by writes to the console that wait for no
# interrupt: if it goes on while no more bytes come, the device is at fault (tries.ts).
while sleep 3; do echo "<2>guest: alive, $(stat -c %s /sample) bytes" >/dev/kmsg; done &
alive=$!
before=$(cut -d' ' -f1 /proc/uptime)
head -c "$bytes" /dev/hwrng >/sample
after=$(cut -d' ' -f1 /proc/uptime)
# What the kernel prints may fall into the middle of a line that is written to the terminal.
kill $alive
wait $alive 2>/dev/null
sleep 1
echo "guest: read $(stat -c %s /sample) bytes from $before s to $after s"
echo "guest: sha256 $(sha256sum /sample | cut -c1-64)"
# Random bytes do not compress: what gzip makes of them is larger than they are.
echo "guest: gzipped $(gzip -c /sample | wc -c) bytes"
dmesg | grep -iE 'virtio|hwrng|random:|pci|mmconfig|ecam' | sed 's/^/guest: dmesg /'
grep -i virtio /proc/interrupts | sed 's/^/guest: interrupts /'
# Without a working timer this never comes back.
sleep 1
echo "guest: slept, timers $(grep -E '^ *(0|LOC):' /proc/interrupts | tr -s ' \n' ' ')"
# With test.button it goes on until somebody presses the power button.
if grep -q test.button /proc/cmdline; then
  button=/sys/firmware/acpi/interrupts/ff_pwr_btn
  echo "guest: waits, button $(cat $button)"
  until [ "$(awk '{ print $1 }' $button)" -gt 0 ]; do sleep 1; done
  echo "guest: pressed, button $(cat $button)"
  echo "guest: lockups $(dmesg | grep -ciE 'lockup|stall')"
fi
echo "guest: done"
poweroff -f

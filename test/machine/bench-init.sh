#!/bin/busybox sh
# /init of the guest that is measured (build/bench/machine.ts): says how long the kernel took, reads a
# disk with dd and with fio, and powers off. fio comes on the other disk, an ext4 file system.
/bin/busybox mount -t proc proc /proc
read -r uptime _ </proc/uptime
echo "guest: init $uptime"

/bin/busybox --install -s /bin
export PATH=/bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done

# Which disk is which depends on the monitor.
mkdir -p /tools
for disk in vda vdb; do
  if mount -t ext4 -o ro "/dev/$disk" /tools 2>/dev/null; then tools=$disk; else data=$disk; fi
done
[ -n "$tools" ] || echo "guest: no disk with fio"

# Twice the same: the second time the page cache of the host has all of it, and only the host's.
for try in 1 2; do
  echo 3 >/proc/sys/vm/drop_caches
  read -r before _ </proc/uptime
  dd if="/dev/$data" of=/dev/null bs=1M 2>/dev/null
  read -r after _ </proc/uptime
done
echo "guest: dd from $before s to $after s"

mount -o bind /dev /tools/dev
mount -t proc proc /tools/proc
mount -t tmpfs tmp /tools/tmp
echo "guest: fio $(chroot /tools /bin/fio --name=bench --filename="/dev/$data" --readonly \
  --rw=randread --bs=4k --iodepth=16 --ioengine=libaio --direct=1 --time_based --runtime=5 \
  --minimal 2>&1)"
echo "guest: done"
poweroff -f

#!/bin/busybox sh
# /init of the guest whose disk fio writes (fio-host.ts); fio comes on the first disk, an ext4 file
# system. What it does is in the kernel's parameters:
#
#   fio.verify=SEED   reads what an earlier boot wrote with that seed, and compares
#   fio.write=SEED    writes, flushes, reads back and compares; then writes elsewhere until it is killed
#
# Odd and even seeds have a part of the disk each: a boot that has to be repeated finds what the one
# before it wrote.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
mkdir -p /tools
mount -t ext4 -o ro /dev/vda /tools
mount -o bind /dev /tools/dev
mount -t proc proc /tools/proc
mount -t tmpfs tmp /tools/tmp

parameter() {
  sed -n "s/.*\bfio\.$1=\([0-9]*\).*/\1/p" /proc/cmdline
}

# NAME OPTION...: one job of fio on the disk.
job() {
  name=$1
  shift
  chroot /tools /bin/fio --name="$name" --filename=/dev/vdb --direct=1 --ioengine=libaio \
    --iodepth=16 --eta=never --rw=randwrite --bsrange=512-64k --output=/tmp/log "$@" 2>&1
  status=$?
  [ "$status" = 0 ] || sed 's/^/guest: fio says /' /tools/tmp/log
  return "$status"
}

# SEED OPTION...: one job on the part of that seed. Each block has a checksum of its own, so what is
# found out is damage, and a block that was lost, which is still zero: each part is written once.
# (Without --verify_fatal damage in blocks of many sizes is told, but not by the status.)
checked() {
  seed=$1
  shift
  job checked --offset="$((seed % 2 * 12))m" --size=12m --randseed="$seed" --verify=crc32c \
    --verify_fatal=1 --verify_state_save=0 "$@"
}

verify=$(parameter verify)
if [ -n "$verify" ]; then
  checked "$verify" --verify_only
  echo "guest: verified $verify: $?"
fi

write=$(parameter write)
if [ -n "$write" ]; then
  echo "guest: writes $write"
  checked "$write" --do_verify=0 --end_fsync=1
  echo "guest: wrote $write: $?"
  checked "$write" --verify_only
  echo "guest: verified $write: $?"
  echo "guest: goes on"
  job restless --offset=24m --size=4m --time_based --runtime=600 --fsync=16
  echo "guest: was not killed"
fi
echo "guest: done"
poweroff -f

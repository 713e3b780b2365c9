#!/bin/sh -e
# Keeps the initrd of the root in $1 small, before the kernel is installed: it only has to mount the node's disk.
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
echo MODULES=list > "$root/etc/initramfs-tools/conf.d/node"
printf '%s\n' virtio_pci virtio_blk ext4 > "$root/usr/share/initramfs-tools/modules.d/node"

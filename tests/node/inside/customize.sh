#!/bin/sh -e
# Makes of Debian's root in $1 the node's, before its disk is written.
root=$1
inside=$(dirname "$0")
echo node > "$root/etc/hostname"
echo "127.0.0.1 localhost node" > "$root/etc/hosts"
echo "/dev/vda / ext4 rw,relatime 0 1" > "$root/etc/fstab"
passwd --root "$root" --delete root > /dev/null
install -m 755 "$inside/node-run" "$root/usr/local/sbin/"
install -m 644 "$inside"/*.service "$inside"/*.socket "$inside"/*.mount "$root/etc/systemd/system/"
install -m 644 "$inside/node.network" "$root/etc/systemd/network/"
systemctl --root "$root" --quiet enable programs.mount programs.service node-run.socket systemd-networkd.service
# containerd is started by those who try it. /tmp is on the disk: it holds images.
systemctl --root "$root" --quiet disable containerd.service docker-registry.service systemd-networkd-wait-online.service
systemctl --root "$root" --quiet mask tmp.mount apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer
# Profiles of desktop programs, which take half a minute to load here.
find "$root/etc/apparmor.d" -maxdepth 1 -type f -delete

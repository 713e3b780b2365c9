#!/bin/bash
# What the node is, and what is on it of this project.
uname -srm
systemctl --version | head -n 1
containerd --version
runc --version | head -n 1
echo "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
free -m | head -n 2
systemctl --no-pager --no-legend list-units --failed
ls -d /programs/project/target/*

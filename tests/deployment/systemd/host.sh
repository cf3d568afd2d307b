#!/bin/bash
# Begin a systemd of its own: root's namespaces over an overlay of this machine, which stays as it is.
# Environment: STAGE (an empty folder), ROOT (the sources), PYTHON (base prefix), PACKAGES (site-packages), OUT.
set -e
if [ "$1" != inside ]; then
  for controller in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do
    [ -w "$controller/cgroup.procs" ] || continue
    mkdir -p "$controller/fedsynth-trial" && echo $$ > "$controller/fedsynth-trial/cgroup.procs" || true
  done
  exec unshare --cgroup --pid --fork --kill-child --mount --net --ipc --uts --propagation private "$0" inside
fi
hostname north
ip link set lo up
mount -t tmpfs -o size=2g tmpfs "$STAGE"
mkdir "$STAGE"/{upper,work,root}
R=$STAGE/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$STAGE/upper,workdir=$STAGE/work" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs -o ro sysfs "$R/sys"
mount --rbind /dev "$R/dev"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
if grep -q cgroup2 <(stat -fc %T /sys/fs/cgroup); then
  mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$R/sys/fs/cgroup"
  mkdir "$R"/sys/fs/cgroup/{systemd,unified}
  for one in memory pids cpu cpuacct devices; do
    mkdir "$R/sys/fs/cgroup/$one" && mount -t cgroup -o "$one" cgroup "$R/sys/fs/cgroup/$one"
  done
  mount -t cgroup -o none,name=systemd cgroup "$R/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup/unified"
fi
# A Python that the units' users may read: home folders and /tmp are closed to them.
mkdir -p "$R/opt/python/lib" "$R/opt/packages" "$R/opt/fedsynth/bin" "$R/out"
tar -C "$PYTHON" --exclude='site-packages/*' --exclude='*/test' -c bin lib | tar -C "$R/opt/python" -x
mount --bind "$PACKAGES" "$R/opt/packages"
SITE=$(echo "$R"/opt/python/lib/python3.*/)site-packages
mkdir -p "$SITE"
cp -r "$ROOT"/{fedsynth,server,client} "$SITE/"
echo /opt/packages > "$SITE/packages.pth"
echo /opt/python/lib > "$R/etc/ld.so.conf.d/000-trial.conf"
ldconfig -r "$R"
for script in "$PACKAGES"/../../../bin/{flwr,flower}*; do
  sed '1s,.*,#!/opt/python/bin/python3,' "$script" > "$R/opt/python/bin/$(basename "$script")"
done
printf '#!/opt/python/bin/python3\nfrom fedsynth.cli.main import main\nmain()\n' > "$R/opt/fedsynth/bin/fedsynth"
chmod -R a+rX "$R/opt/python" "$R/opt/fedsynth"
chmod a+x "$R"/opt/python/bin/* "$R/opt/fedsynth/bin/fedsynth"
mkdir -p "$R/opt/tests/deployment"
cp "$ROOT"/tests/deployment/{commands,federation,machine}.py "$ROOT/tests/deployment/systemd/trial.py" "$R/opt/tests/deployment/"
D=$ROOT/deploy/systemd
for one in site coordinator; do
  install -m 644 "$D/fedsynth-$one.sysusers.conf" "$R/usr/lib/sysusers.d/fedsynth-$one.conf"
  install -m 644 "$D/fedsynth-$one.tmpfiles.conf" "$R/usr/lib/tmpfiles.d/fedsynth-$one.conf"
done
rm -rf "$R"/etc/systemd/system/*.wants
install -m 644 "$D"/fedsynth-{train,gate,link,coordinator}.service "$D/fedsynth.target" "$R/etc/systemd/system/"
rm -f "$R/etc/nginx/sites-enabled/default"
install -m 644 "$ROOT/deploy/nginx/fedsynth.conf" "$R/etc/nginx/conf.d/fedsynth.conf"
cat > "$R/etc/systemd/system/trial.service" <<'U'
[Service]
Type=oneshot
Environment=PATH=/opt/fedsynth/bin:/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin OMP_NUM_THREADS=1
StandardOutput=file:/out/trial.log
StandardError=inherit
ExecStartPre=systemd-sysusers fedsynth-site.conf fedsynth-coordinator.conf
ExecStartPre=systemd-tmpfiles --create fedsynth-site.conf fedsynth-coordinator.conf
ExecStart=/opt/python/bin/python3 /opt/tests/deployment/trial.py
ExecStopPost=systemctl --no-block exit
TimeoutStartSec=900
U
printf '[Unit]\nWants=trial.service systemd-journald.service\n' > "$R/etc/systemd/system/trial.target"
mount --bind "$OUT" "$R/out"
cd "$R"
mkdir -p old
pivot_root . old
umount -l /old
SYSTEMD=/lib/systemd/systemd
exec env -i container=trial PATH=/usr/sbin:/usr/bin:/sbin:/bin $SYSTEMD --system --unit=trial.target --log-target=console

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Debian's own programs on the kernel, in less memory than they need: debian_set.py ARCH KERNEL.elf DIR [NAME ...] [--memory MIB]

Each program runs a script natively, then on the metal, all in one boot; what it prints must be equal. DIR gets an image of the programs'
packages (kernel/image.sh). The last line is "N equal, N differ".
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402  kernel/machine.py

# name: (what kernel/image.sh calls it, a script). A script runs in an empty directory, and prints what is the same everywhere.
PROGRAMS = {
    'perl': ('perl', r'''
cat > t.pl <<'END'
use strict; use warnings; use POSIX; use List::Util qw(sum max); use Data::Dumper; use File::Find; use Socket;
use Digest::MD5 qw(md5_hex); use IPC::Open3; use Time::HiRes qw(sleep alarm);
my %h; $h{"key$_"} = [$_, $_ * 2, "x" x ($_ % 40)] for 1 .. 40000;
print scalar(keys %h), " ", sum(map { $_->[1] } values %h), "\n";
print md5_hex(join ",", sort keys %h), "\n";
pipe(my $r, my $w); my $pid = fork;
if (!$pid) { close $r; print $w "from the child\n"; exit 3 }
close $w; print <$r>; waitpid $pid, 0; print $? >> 8, "\n";
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC); syswrite $a, "pair"; sysread $b, my $got, 9; print "$got\n";
my $c = open3(my $in, my $out, undef, "sort", "-r"); print $in "b\na\nc\n"; close $in; print <$out>; waitpid $c, 0;
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 0.05; sleep 20; }; print $@;
mkdir "d"; for (1 .. 30) { open my $f, ">", "d/$_"; print $f $_ x 100 }
my $n = 0; find(sub { $n += -s if -f }, "d"); print "$n\n";
$_ = "the quick brown fox" x 2000; my $k = () = /\b(\w+)\b/g; print "$k\n";
local $Data::Dumper::Sortkeys = 1; print Dumper({ a => [1, 2], b => { c => undef } });
printf "%s %s\n", strftime("%Y-%m-%d", gmtime 86400 * 365), floor(-1.5);
END
perl t.pl'''),
    'awk': ('mawk', r'''
seq 1 60000 | mawk '{ s[$1 % 1000] = s[$1 % 1000] "," $1; t += $1 } END { print t, length(s), substr(s[7], 1, 40) }'
mawk 'BEGIN { while (("echo " 6 " " 7) | getline line > 0) print line; printf "%5.2f|%-5s|%05d\n", 3.14159, "ab", 42; print toupper("x") | "cat" }'
printf 'a:1\nb:2\n' | mawk -F: '{ gsub(/[ab]/, "<&>"); print $2, $1 > "out"; } END { close("out"); while (getline l < "out") print l }' '''),
    'tar': ('tar gzip xz-utils', r'''
mkdir -p t/sub; for i in $(seq 1 60); do seq $i 3000 > t/f$i; done; ln -s f1 t/link; ln t/f2 t/sub/hard; mkfifo t/fifo; chmod 600 t/f3
dd if=/dev/zero of=t/sparse bs=1 count=1 seek=3000000 2>/dev/null
tar cf b.tar t; tar df b.tar; echo "same $?"; tar cSf s.tar t/sparse; mkdir p; tar xf s.tar -C p; cmp t/sparse p/t/sparse; echo "sparse $?"
tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 --mode=u=rwX,go= -cf a.tar t && tar tvf a.tar | wc -l
gzip -9nk a.tar; gzip -t a.tar.gz; echo "gzip $?"; zcat a.tar.gz | cksum; cksum < a.tar
xz -6k a.tar; xz -t a.tar.xz; echo "xz $?"; xz -T2 -0 -c a.tar | xz -dc | cmp - a.tar; echo "cmp $?"
mkdir o; tar xJf a.tar.xz -C o; diff -r --no-dereference t/sub o/t/sub; cmp t/f60 o/t/f60; ls -l o/t/f3 | cut -c1-10; readlink o/t/link; test -p o/t/fifo && echo fifo
stat -c '%h %s' o/t/f2 o/t/sparse'''),
    'make': ('make', r'''
printf 'N := $(shell seq 1 24)\nall: $(N:%%=o/%%)\n\t@cat $(sort $^) | cksum\no/%%: | o\n\t@seq 1 $*000 > $@; sleep 0.01\no:\n\t@mkdir $@\ncheck:\n\t@false\n.PHONY: all check\n' > Makefile
make -j4; make -j4 -q; echo "done $?"; rm o/3; make -s -j2 -l 100; make check 2>/dev/null; echo $?; make -n all | wc -l
printf 'x = $(foreach i,a b c,$(i)$(i))\n$(info $(x) $(words $(x)) $(patsubst a%%,z%%,$(x)) $(shell echo $$((2 + 3))))\na:;@echo $(MAKE_RESTARTS)ok\n' > m2; make -f m2'''),
    'lua': ('lua5.4', r'''
cat > t.lua <<'END'
local t = {} for i = 1, 60000 do t[i] = { i, tostring(i * 7), i / 3 } end
table.sort(t, function(a, b) return a[2] < b[2] end) print(#t, t[1][2], t[60000][2], collectgarbage("count") > 1000)
local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end) print(co(), co(), co())
print(("hello world"):gsub("o", "0"), ("%5.1f|%x"):format(2.25, 255), 7 // 2, 1 << 40, 2^53)
local p = io.popen("echo from popen; exit 4") print(p:read("a")) print(p:close()) print(os.execute("exit 3"))
local f = io.tmpfile() f:write("abc\n", 12, "\n") f:seek("set") for l in f:lines() do print(l) end print(pcall(error, "x"))
local s = {} for i = 1, 20000 do s[#s + 1] = string.rep("a", i % 50) end print(#table.concat(s))
END
lua5.4 t.lua'''),
    'bash': ('bash', r'''
cat > t.bash <<'END'
shopt -s extglob; declare -A m; for ((i = 0; i < 20000; i++)); do m[k$((i % 500))]+=$i; done; echo ${#m[@]} ${#m[k7]}
a=({1..30000}); echo ${#a[@]} ${a[-1]} "${a[@]:3:4}"; printf -v x '%05d' 42; echo $x ${x//0/_} ${x^^}
while read -r l; do echo "got $l"; done < <(echo one; echo two); diff <(seq 3) <(seq 4); cat <<< "here string"
[[ foobar =~ o+(b) ]] && echo "${BASH_REMATCH[@]}"; trap 'echo usr1' USR1; kill -USR1 $$; trap 'echo bye' EXIT
coproc C { while read -r l; do echo "co $l"; done; }; echo hi >&"${C[1]}"; read -r r <&"${C[0]}"; echo "$r"; exec {C[1]}>&-; wait
(sleep 0.05; exit 3) & (exit 4) & wait -n; echo $?; wait -n; echo $?; read -t 0.05 z < <(sleep 2); [ $? -gt 128 ] && echo timeout
f() { local n=$1; ((n < 2)) && { echo $n; return; }; echo $(($(f $((n - 1))) + $(f $((n - 2))))); }; f 9; echo {a..e}{1..2}; ulimit -n 64; ulimit -n
select_() { case $1 in (+([0-9])) echo number;; (*) echo word;; esac; }; select_ 12; select_ ab; seq 1 5 | { mapfile -t q; echo "${q[*]}"; }
set -o pipefail; false | true; echo $?; exec 5<> t.fd; echo data >&5; cat t.fd; [ -e /dev/fd/5 ] && echo fd5; echo $((16#ff)) $((2 ** 40))
END
bash t.bash 2>&1'''),
    'git': ('git', r'''
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b HOME=$PWD GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' GIT_CONFIG_NOSYSTEM=1
git init -q -b main r; cd r; for i in $(seq 1 40); do seq $i 500 > f$i; done; git add .; git commit -qm one; git rev-parse HEAD
git checkout -qb side; echo x >> f1; git rm -q f2; git commit -qam two; git checkout -q main; echo y >> f40; git commit -qam three
git merge -q -m merged side; git rev-parse HEAD; git log --oneline --graph | sed 's/[0-9a-f]\{7\}/H/'; git diff --stat HEAD~1 | tail -1
git gc -q; git count-objects -v | grep -v size; git fsck --strict --no-progress; echo $?; cd ..; git clone -q r c; git -C c log --format=%H | cksum; git -C c status --short | wc -l
git -C c grep -c 499 | wc -l; git -C r archive main | cksum; echo z >> r/f3; git -C r stash -q; git -C r stash list | wc -l; git -C r blame f1 | tail -1 | cut -d')' -f2'''),
    'openssl': ('openssl', r'''
seq 1 200000 > in; openssl dgst -sha256 in; openssl enc -aes-256-cbc -K 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff -iv 0102030405060708090a0b0c0d0e0f10 -in in -out e; openssl dgst -md5 e
openssl ecparam -name prime256v1 -genkey -noout -out k 2>/dev/null; openssl pkey -in k -pubout -out p; openssl dgst -sha256 -sign k -out s in; openssl dgst -sha256 -verify p -signature s in
openssl genrsa -out r 1024 2>/dev/null; openssl req -new -x509 -key r -subj /CN=x -days 9 -out c; openssl verify -CAfile c c 2>&1; openssl rand -hex 8 | wc -c; echo abc | openssl base64'''),
    'sqlite': ('sqlite3', r'''
cat > s.sql <<'END'
pragma journal_mode = wal; create table t(a integer primary key, b text); begin;
with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000) insert into t select x, hex(x * 7919) from n; commit;
create index i on t(b); select count(*), min(b), max(b) from t; update t set b = b || 'x' where a % 3 = 0; delete from t where a % 5 = 0;
select count(*), sum(length(b)) from t; pragma integrity_check; pragma wal_checkpoint(truncate); vacuum; pragma page_count;
END
sqlite3 db < s.sql; sqlite3 db "pragma journal_mode = delete; begin; delete from t; rollback; select count(*) from t;"
sqlite3 db "select count(*) from t" & sqlite3 db "select max(a) from t" > m & wait; cat m; sqlite3 db .schema'''),
    'php': ('php-cli', r'''
cat > t.php <<'END'
<?php $a = []; for ($i = 0; $i < 60000; $i++) { $a["k$i"] = [$i, md5((string)$i)]; }
uasort($a, fn($x, $y) => strcmp($x[1], $y[1])); echo count($a), " ", array_key_first($a), " ", md5(serialize($a)), "\n";
echo preg_replace_callback('/\d+/', fn($m) => $m[0] * 2, "a1 b22 c333"), " ", json_encode(["x" => [1, 2.5, null]]), "\n";
$p = proc_open(["sort"], [["pipe", "r"], ["pipe", "w"]], $pipes); fwrite($pipes[0], "b\na\n"); fclose($pipes[0]); echo stream_get_contents($pipes[1]); echo proc_close($p), "\n";
$s = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0); fwrite($s[0], "pair\n"); echo fgets($s[1]);
file_put_contents("f", str_repeat("z", 100000), LOCK_EX); echo filesize("f"), " ", crc32(file_get_contents("f")), "\n";
function g() { for ($i = 0; $i < 3; $i++) yield $i * $i; } echo implode(",", iterator_to_array(g())), " ", date("Y-m-d", 0), "\n";
END
$(ls /usr/bin/php[0-9]* | head -1) -n t.php'''),
    'ruby': ('ruby', r'''
cat > t.rb <<'END'
require "digest"; require "json"; require "set"; require "socket"; require "tempfile"
h = {}; 40000.times { |i| h["key#{i}"] = [i, i.to_s * 3] }; puts h.size, Digest::MD5.hexdigest(h.keys.sort.join(","))
t = 4.times.map { |i| Thread.new { (1..2000).sum * i } }; p t.map(&:value)
r, w = IO.pipe; pid = fork { r.close; w.puts "child"; exit! 5 }; w.close; print r.read; Process.wait pid; p $?.exitstatus
a, b = UNIXSocket.pair; a.send_io(File.open("/dev/null")); p b.recv_io.class; a.write "x" * 10; p b.readpartial(99).size
UNIXServer.open("sock") { |s| c = UNIXSocket.new("sock"); d = s.accept; d.puts "served"; puts c.gets }
p IO.popen(["sort", "-n"], "r+") { |io| io.puts 10, 9; io.close_write; io.read }; p JSON.parse('{"a":[1,null,"x"]}'), Set[1, 2, 2].size
Tempfile.create { |f| f.write "abc"; f.flush; p File.size(f.path) }; q = Queue.new; Thread.new { 3.times { |i| q << i }; q << nil }; n = 0; n += 1 while q.pop; p n
trap("USR1") { puts "usr1" }; Process.kill "USR1", $$; sleep 0.05; begin; raise "boom"; rescue => e; p e.message; end; GC.start; p 2**100
END
ruby --disable=gems t.rb'''),
    'node': ('nodejs', r'''
cat > t.js <<'END'
const fs = require("fs"), cp = require("child_process"), { Worker } = require("worker_threads"), crypto = require("crypto"), net = require("net");
const a = []; for (let i = 0; i < 60000; i++) a.push({ i, s: String(i * 7919) }); a.sort((x, y) => x.s < y.s ? -1 : 1);
console.log(a.length, a[0].s, crypto.createHash("sha256").update(JSON.stringify(a)).digest("hex"));
fs.writeFileSync("f", "x".repeat(1e5)); console.log(fs.statSync("f").size, cp.execFileSync("sort", { input: "b\na\n" }).toString());
const w = new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true });
w.on("message", m => { console.log("worker", m); const s = net.createServer(c => c.end("hello")).listen("sock", () => net.connect("sock").on("data", d => { console.log(String(d)); s.close(); })); });
END
node --jitless t.js'''),
}
MEMORY = {'node': 64}


def native(script):
    with tempfile.TemporaryDirectory() as d:
        r = subprocess.run(['sh', '-c', script], cwd=d, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=300,
                           env={'PATH': '/usr/bin:/bin', 'LC_ALL': 'C', 'TZ': 'UTC', 'HOME': '/root'})
    return r.stdout


def write_scripts(directory, names):
    """A script for each program, and one that runs all of them, each in its directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # busybox's shell takes its own programs before those of /usr/bin
    every = 'export LC_ALL=C TZ=UTC\nbusybox ln -sf /usr/bin/dash /bin/sh\n'
    for name in names:
        (directory / name).write_text(PROGRAMS[name][1])
        every += 'mkdir /tmp/%s; cd /tmp/%s; echo "BEGIN %s"; /bin/sh /in/%s < /dev/null 2> /dev/null | cat; echo "END %s"\n' % (5 * (name,))
    (directory / 'all').write_text(every)


def boot(a, memory, names):
    write_scripts(a.directory / 'extra' / 'in', names)
    what = sorted({w for n in names for w in PROGRAMS[n][0].split()} | {'dash', 'coreutils', 'diffutils', 'sed', 'grep', 'findutils'})
    subprocess.run(['sh', str(HERE.parent / 'image.sh'), str(a.directory), *what], check=True, env={
        'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'ARCH': a.arch, 'DEBIAN': str(a.kernel.parent / 'debian')})
    drives = ['file=%s,format=raw' % (a.directory / image) for image in ('root.img', 'swap.img')]
    command = machine.command(a.arch, a.kernel, memory, a.cpus, 'root=0 swap=1 quiet=1 init=/bin/sh arg0=/in/all ' + a.append, drives)
    code, text = machine.run(command, a.timeout)
    fsck = subprocess.run(['e2fsck', '-fn', str(a.directory / 'root.img')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    clean = machine.status(code) == 0 and 'vm_check: 0 violations' in text and fsck.returncode == 0
    return clean, text


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('arch', choices=machine.MACHINES)
    ap.add_argument('kernel', type=pathlib.Path)
    ap.add_argument('directory', type=pathlib.Path)
    ap.add_argument('names', nargs='*')
    ap.add_argument('--memory', type=int, default=24, help='of the machine, MiB')
    ap.add_argument('--cpus', type=int, default=1)
    ap.add_argument('--append', default='', help='words for the kernel')
    ap.add_argument('--timeout', type=int, default=300, help='seconds without output after which the machine is given up')
    a = ap.parse_args()
    a.directory.mkdir(parents=True, exist_ok=True)
    groups = {}
    for name in a.names or PROGRAMS:
        groups.setdefault(max(a.memory, MEMORY.get(name, 0)), []).append(name)
    equal = differ = 0
    for memory, names in groups.items():
        clean, text = boot(a, memory, names)
        for name in names:
            got = re.search(r'BEGIN %s\n(.*?)END %s\n' % (name, name), text, re.S)
            want = native(PROGRAMS[name][1]).decode(errors='replace')
            same = got is not None and got.group(1) == want
            equal += same
            differ += not same
            print('%s %s in %d MiB' % ('equal' if same else 'DIFFERS', name, memory), flush=True)
            if not same:
                print('--- native\n%s--- here\n%s---' % (want, got.group(1) if got else text[-3000:]))
        if not clean:
            differ += 1
            print('the machine did not end well\n' + text[-2000:])
    print('%d equal, %d differ' % (equal, differ))
    return 1 if differ else 0


if __name__ == '__main__':
    sys.exit(main())

"""The server's operator: what is in the memory of the service's processes while people are there.

Read from /proc/PID/mem (proc(5)): writable private memory, of which only pages that are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.observers import Sight, packed, unpacked_size

if TYPE_CHECKING:
    from experiments.observers import Scene
    from provisioning.transport import Session

LATER = False
MOST_BYTES = 256 << 20  # of one process
MOST_PROCESSES = 50

# Perl is in every Debian (perl-base is essential). $0 is no such process: it only looks.
_PIDS = r"""
my %wanted = map { $_ => 1 } @ARGV;
opendir(my $proc, "/proc") or die "$!\n";
for my $pid (sort { $a <=> $b } grep { /^\d+$/ && $_ != $$ } readdir $proc) {
    my $exe = readlink("/proc/$pid/exe") or next;
    $exe =~ s/ \(deleted\)$//; $exe =~ s,.*/,,;
    print "$pid $exe\n" if $wanted{$exe};
}
"""
# Writes the pages to standard output and (address, length, name) of each run to standard error.
_DUMP = r"""
my ($pid, $left) = @ARGV;
open(my $maps, "<", "/proc/$pid/maps") or exit;
open(my $mem, "<:raw", "/proc/$pid/mem") or exit;
open(my $map, "<:raw", "/proc/$pid/pagemap") or exit;
binmode(STDOUT);
my ($start, $length, $label) = (0, 0, "");
sub told { printf STDERR "%d %d %s\n", $start, $length, $label if $length; $length = 0 }
while (my $line = <$maps>) {
    my ($from, $to, $name) = $line =~ /^(\w+)-(\w+) rw.p \S+ \S+ \S+\s*(.*)/ or next;
    ($from, $to) = (hex $from, hex $to);
    $name =~ s/\s.*//; $name ||= "anonymous";
    sysseek($map, $from / 4096 * 8, 0) or next;
    sysread($map, my $pages, ($to - $from) / 4096 * 8);
    my $at = $from;
    for my $flags (unpack("Q*", $pages)) {
        if ($flags >> 62 && $left >= 4096 && sysseek($mem, $at, 0)
            && (sysread($mem, my $page, 4096) // 0) == 4096) {
            if ($page =~ /[^\0]/) {
                told() if $start + $length != $at || $label ne $name;
                ($start, $label) = ($at, $name) unless $length;
                print $page;
                $length += 4096; $left -= 4096;
            }
        }
        $at += 4096;
    }
}
told();
"""


def look(scene: Scene) -> list[Sight]:
    """Copy the memory of each process of each server's service."""
    system, name = scene.inspectable(), scene.setting.name
    sights = []
    for server in scene.setting.servers:
        if system is None:
            why = f"{name} does not say which processes it has"
            sights.append(Sight("memory", "server", server, "", "memory", lacks=why))
            continue
        session = scene.setting.sessions[server]
        processes = _processes(session, system.programs)
        if not processes:
            why = f"no process runs {', '.join(system.programs)}"
            sights.append(Sight("memory", "server", server, "", "memory", lacks=why))
        sights += [_one(scene, session, server, *process) for process in processes]
    return sights


def _processes(session: Session, programs: tuple[str, ...]) -> list[tuple[int, str]]:
    printed = session.run(["perl", "-e", _PIDS, *programs]).stdout.decode()
    rows = [line.partition(" ") for line in printed.splitlines()]
    return [(int(pid), program) for pid, _, program in rows][:MOST_PROCESSES]


def _one(scene: Scene, session: Session, server: str, pid: int, program: str) -> Sight:
    script = 'perl -e "$1" "$2" "$3" 2>&3 | gzip -1'
    told = f"/tmp/.regions-{pid}"  # noqa: S108 -- on the host, of our own
    content = packed(session, f"{{ {script}; }} 3>{told}", _DUMP, str(pid), str(MOST_BYTES))
    regions = session.run(["/bin/sh", "-c", f"cat {told}; rm {told}"]).stdout.decode()
    parts, offset = [], 0
    for line in regions.splitlines():
        address, length, label = line.split(" ", 2)
        parts.append((f"{label} at {int(address):#x}", offset, int(length)))
        offset += int(length)
    file = scene.keep(f"memory/{server}-{program}-{pid}.gz", content)
    what = f"writable memory of {program}, process {pid}"
    size = unpacked_size(content)
    lacks = "" if size == offset else f"{size} bytes came and {offset} were told of"
    if offset + 4096 > MOST_BYTES:
        lacks = f"only the first {MOST_BYTES >> 20} MiB were read"
    return Sight("memory", "server", server, file, what, size, tuple(parts), lacks)

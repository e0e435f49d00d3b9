"""How much processor time programs of lab hosts have used, as the kernel counts it.

/proc/PID/task/TID/schedstat begins with the nanoseconds that a thread has run (Linux kernel,
Documentation/scheduler/sched-stats), and has only threads that are there. /proc/PID/stat counts
those that have ended too, in hundredths of a second. Both are told; whoever judges chooses. What a
process that has ended used is in neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioning.transport import Session

Used = dict[tuple[int, str], tuple[float, float]]
"""By process id and program, in seconds: what living threads used, and what all of them did."""

TICKS = 100  # a second, as every Linux counts them for its users (USER_HZ)
# The way in and the listening are ours, not the system's.
NOT_COUNTED = frozenset({"sshd", "sshd-session", "tcpdump", "dash", "perl", "tini"})

_ASK = r"""
opendir(my $proc, "/proc") or die "$!\n";
for my $pid (grep { /^\d+$/ && $_ != $$ } readdir $proc) {
    my $exe = readlink("/proc/$pid/exe") or next;
    $exe =~ s/ \(deleted\)$//; $exe =~ s,.*/,,;
    my $sum = 0;
    for my $file (glob "/proc/$pid/task/*/schedstat") {
        open(my $stat, "<", $file) or next;
        $sum += (split " ", <$stat> // "0")[0];
    }
    open(my $stat, "<", "/proc/$pid/stat") or next;
    my $row = <$stat> // next; $row =~ s/.*\) //;
    my ($user, $system) = (split " ", $row)[11, 12];  # proc(5): fields 14 and 15
    print "$pid $sum ", $user + $system, " $exe\n";
}
"""


def used(session: Session) -> Used:
    """Return the seconds that each process has used so far, by process id and program."""
    rows = session.run(["perl", "-e", _ASK]).stdout.decode().splitlines()
    found: Used = {}
    for row in rows:
        pid, nanoseconds, ticks, program = row.split(" ", 3)
        if program not in NOT_COUNTED:
            found[int(pid), program] = (int(nanoseconds) / 1e9, int(ticks) / TICKS)
    return found


def since(before: Used, after: Used) -> dict[str, list[float]]:
    """Return what each program has used between two looks, both ways to count it: pure."""
    total: dict[str, list[float]] = {}
    for (pid, program), seconds in after.items():
        earlier = before.get((pid, program), (0.0, 0.0))
        sums = total.setdefault(program, [0.0, 0.0])
        for way, (now, then) in enumerate(zip(seconds, earlier, strict=True)):
            sums[way] = round(sums[way] + max(now - then, 0.0), 9)
    return total

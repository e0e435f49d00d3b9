"""What a service keeps, put back to what it was: how a lab of namespaces is reset between cells.

Namespaces cannot be saved while they run (docs/matrix.md). So the service is stopped, what it keeps
is copied once into the host's own memory and put back whenever it is wanted, and the role starts
it again: nothing of what was said is left on disk or in the memory of its processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import Fault, LabError
from provisioning import messaging, roles
from provisioning.messaging import Inspectable
from provisioning.provision import PROBE_DEADLINE

if TYPE_CHECKING:
    from lab.plan import Plan
    from provisioning.transport import Session

STOP_DEADLINE = 20  # seconds; MariaDB takes a part of one
_FOLDER = "/run/imlab-baseline"

# Ends the processes that run a program, by their ids; prints what would not go.
_STOP = r"""
my ($deadline, @programs) = @ARGV;
my %wanted = map { $_ => 1 } @programs;
sub those {
    opendir(my $proc, "/proc") or die "$!\n";
    return grep {
        my $exe = readlink("/proc/$_/exe") // ""; $exe =~ s/ \(deleted\)$//; $exe =~ s,.*/,,;
        $wanted{$exe};
    } grep { /^\d+$/ && $_ != $$ } readdir $proc;
}
kill TERM => those();
my $until = time + $deadline;
select(undef, undef, undef, 0.005) while those() && time < $until;
kill KILL => those();
select(undef, undef, undef, 0.05) if those();
print join(" ", those());
"""
_TAKE = (
    'to=$1; shift; mkdir -p -m 700 "${to%/*}"; '
    'for f; do shift; [ -e "$f" ] && set -- "$@" "$f"; done; tar -cpf "$to" -- "$@" 2>/dev/null'
)
_PUT_BACK = 'from=$1; shift; rm -rf -- "$@" && tar -C / -xpf "$from"'


@dataclass(frozen=True, slots=True)
class Baseline:
    """A service of one host as it was when `take` was called."""

    plan: Plan
    session: Session
    host: str
    role: str
    system: Inspectable

    @classmethod
    def take(cls, plan: Plan, session: Session, host: str, role: str) -> Baseline:
        """Stop the service, copy what it keeps, start it. Raises LabError."""
        system = messaging.find(role)
        if not isinstance(system, Inspectable):
            raise LabError(
                f"keeping the state of {role} on {host}",
                "it does not say what it keeps, nor in which processes",
                fault=Fault.US,
                todo="give its MESSAGING folders, programs and backup (docs/systems.md)",
            )
        made = cls(plan, session, host, role, system)
        made.stop()
        session.run(["/bin/sh", "-c", _TAKE, "sh", made.archive, *system.folders])
        made.start()
        return made

    @property
    def archive(self) -> str:
        """Where the copy is, on the host; /run is memory."""
        return f"{_FOLDER}/{self.role}.tar"

    def put_back(self) -> None:
        """Bring the service back to what it was. Raises LabError."""
        self.stop()
        self.session.run(["/bin/sh", "-c", _PUT_BACK, "sh", self.archive, *self.system.folders])
        self.start()

    def forget(self) -> None:
        """Remove the copy."""
        self.session.run(["rm", "-f", "--", self.archive])

    def stop(self) -> None:
        """End the service's processes. Raises LabError when one stays."""
        argv = ["perl", "-e", _STOP, str(STOP_DEADLINE), *self.system.programs]
        left = self.session.run(argv, deadline=STOP_DEADLINE + 10).stdout.decode().strip()
        if left:
            raise LabError(
                f"stopping {self.role} on {self.host}",
                f"processes that do not end: {left}",
                fault=Fault.GUEST,
                todo="take the lab down and put it up again",
            )

    def start(self) -> None:
        """Have the role start it, and wait until it answers. Raises LabError."""
        host = self.plan.host(self.host)
        planned = next(role for role in host.roles if role.name == self.role)
        context = roles.RoleContext(self.plan, host, planned.parameters)
        role = roles.find(self.role)
        role.apply(self.session, context)
        role.probe(self.session, context, PROBE_DEADLINE)

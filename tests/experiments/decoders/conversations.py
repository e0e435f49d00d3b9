"""Conversations in every protocol that is decoded, in real protocol bytes, and streams of them.

A conversation is a list of (forward, bytes): who said what, in that order. What hides a text from a
plain search (masks, packing, base64) is made here by the standard library and not by the project.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from sealed_talk import C, S, Turn, tls

from experiments.analysis.decoders import decode
from experiments.analysis.model import Chunk, Decoded, Stream
from experiments.analysis.told import Told, told

if TYPE_CHECKING:
    from collections.abc import Iterable

needs_tshark = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")


def stream(turns: Iterable[Turn], *, protocol: str = "tcp", size: int = 0) -> Stream:
    """Return a stream whose turns came in frames of `size` bytes (0: each in one), from 1 on."""
    chunks: list[Chunk] = []
    for forward, data in turns:
        step = size or max(len(data), 1)
        for start in range(0, max(len(data), 1), step):
            number = len(chunks) + 1
            chunks.append(Chunk(number, number / 10, forward, data[start : start + step]))
    return Stream(protocol, 0, "192.168.1.20:1025", "192.168.1.10:8000", tuple(chunks))


def read(
    turns: Iterable[Turn], *, protocol: str = "tcp", size: int = 0
) -> tuple[Decoded, list[Told]]:
    """Decode a conversation; return that and what it told."""
    followed = stream(turns, protocol=protocol, size=size)
    decoded = decode(followed)
    assert decoded
    return decoded, told(followed, decoded)


def said(rows: Iterable[Told], *kinds: str) -> list[tuple[str, str, str, str]]:
    """Return (kind, text, who, whom) of some kinds."""
    return [(r.kind, r.text, r.who, r.whom) for r in rows if not kinds or r.kind in kinds]


def b64(data: bytes) -> bytes:
    """Return base64."""
    return base64.b64encode(data)


IRC: list[Turn] = [
    (C, b"CAP LS 302\r\nPASS open:sesame\r\nNICK alice\r\nUSER al 0 * :Alice A\r\n"),
    (S, b":irc.example 001 alice :Welcome\r\n"),
    (C, b"JOIN #tea key1\r\n"),
    (S, b":alice!al@host JOIN #tea\r\n:irc.example 353 alice = #tea :@alice +bob\r\n"),
    (C, b"PRIVMSG #tea :good evening\r\n"),
    (S, b"@time=2016-01-01T10:00:00Z :bob!b@h PRIVMSG #tea :hello alice\r\n"),
    (S, b":bob!b@h PRIVMSG alice :\x01ACTION waves\x01\r\n"),
    (C, b"PRIVMSG NickServ :IDENTIFY hunter2\r\n"),
    (C, b"PRIVMSG bob :?OTR:AAMDx\r\nPRIVMSG bob :caf\xc3\xa9\r\n"),
]
IRC_SASL: list[Turn] = [
    (C, b"CAP LS\r\nNICK alice\r\nUSER al 0 * :A\r\nCAP REQ :sasl\r\nAUTHENTICATE PLAIN\r\n"),
    (S, b":irc.example CAP * ACK :sasl\r\nAUTHENTICATE +\r\n"),
    (C, b"AUTHENTICATE " + b64(b"\0alice\0s3cret") + b"\r\n"),
    (S, b":irc.example 903 alice :SASL authentication successful\r\n"),
]
XMPP: list[Turn] = [
    (
        C,
        (
            b"<?xml version='1.0'?><stream:stream to='example.org' xmlns='jabber:client' "
            b"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        ),
    ),
    (
        S,
        (
            b"<?xml version='1.0'?><stream:stream from='example.org' id='1' xmlns='jabber:client' "
            b"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'><stream:features>"
            b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>"
            b"</mechanisms></stream:features>"
        ),
    ),
    (
        C,
        b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>"
        + b64(b"\0alice\0s3cret")
        + b"</auth>",
    ),
    (S, b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
    (C, b"<stream:stream to='example.org' xmlns='jabber:client' version='1.0'>"),
    (S, b"<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"),
    (S, b"<jid>alice@example.org/desk</jid></bind></iq>"),
    (
        S,
        (
            b"<iq type='result' id='r' to='alice@example.org/desk'><query xmlns='jabber:iq:roster'>"
            b"<item jid='bob@example.org' name='Bob' subscription='both'><group>Tea</group></item>"
            b"</query></iq>"
        ),
    ),
    (C, b"<presence><show>away</show></presence>"),
    (
        C,
        b"<message to='bob@example.org' type='chat' id='m1'><body>tea &amp; cake?</body></message>",
    ),
    (
        S,
        (
            b"<message from='bob@example.org/phone' to='alice@example.org/desk' type='chat'>"
            b"<body>yes, please</body></message>"
        ),
    ),
    (
        S,
        (
            b"<message from='room@muc.example.org/carol' to='alice@example.org/desk' "
            b"type='groupchat'><body>hello all</body></message>"
        ),
    ),
    (
        C,
        (
            b"<message to='bob@example.org' type='chat'><encrypted "
            b"xmlns='eu.siacs.conversations.axolotl'><header sid='1'/><payload>c2VhbGVk</payload>"
            b"</encrypted><body>I sent you an OMEMO encrypted message</body></message>"
        ),
    ),
    (
        S,
        (
            b"<message from='alice@example.org' to='alice@example.org/desk'><received "
            b"xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'><message "
            b"xmlns='jabber:client' from='dave@example.org/x' to='alice@example.org/pad'>"
            b"<body>copied</body></message></forwarded></received></message>"
        ),
    ),
    (C, b"</stream:stream>"),
]
MAIL = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.org\r\n"
    b"Subject: =?utf-8?q?caf=C3=A9?=\r\nDate: Fri, 1 Jan 2016 10:00:00 +0000\r\n\r\n"
    b"Meet me at noon.\r\n"
)
SMTP: list[Turn] = [
    (S, b"220 mail.example ESMTP ready\r\n"),
    (C, b"EHLO client.example\r\n"),
    (S, b"250-mail.example\r\n250 AUTH PLAIN LOGIN CRAM-MD5\r\n"),
    (C, b"AUTH LOGIN\r\n"),
    (S, b"334 VXNlcm5hbWU6\r\n"),
    (C, b64(b"alice") + b"\r\n"),
    (S, b"334 UGFzc3dvcmQ6\r\n"),
    (C, b64(b"s3cret") + b"\r\n"),
    (S, b"235 ok\r\n"),
    (C, b"MAIL FROM:<alice@example.org>\r\n"),
    (S, b"250 ok\r\n"),
    (C, b"RCPT TO:<bob@example.org>\r\n"),
    (S, b"250 ok\r\n"),
    (C, b"DATA\r\n"),
    (S, b"354 go ahead\r\n"),
    (C, MAIL + b".\r\n"),
    (S, b"250 queued\r\n"),
    (C, b"QUIT\r\n"),
]
POP3: list[Turn] = [
    (S, b"+OK POP3 ready\r\n"),
    (C, b"USER alice\r\n"),
    (S, b"+OK\r\n"),
    (C, b"PASS s3cret word\r\n"),
    (S, b"+OK logged in\r\n"),
    (C, b"RETR 1\r\n"),
    (S, b"+OK 120 octets\r\n" + MAIL + b".\r\n"),
    (C, b"QUIT\r\n"),
]
IMAP: list[Turn] = [
    (S, b"* OK IMAP4rev1 ready\r\n"),
    (C, b"a1 LOGIN {5}\r\n"),
    (S, b"+ go on\r\n"),
    (C, b"alice {9}\r\n"),
    (S, b"+ go on\r\n"),
    (C, b's3c"r e\\t\r\n'),
    (S, b"a1 OK done\r\n"),
    (C, b"a2 FETCH 1 BODY[]\r\n"),
    (S, b"* 1 FETCH (BODY[] {%d}\r\n" % len(MAIL) + MAIL + b")\r\na2 OK done\r\n"),
]
FTP: list[Turn] = [
    (S, b"220-Welcome\r\n220 FTP server\r\n"),
    (C, b"USER alice\r\n"),
    (S, b"331 Password required\r\n"),
    (C, b"PASS s3cret\r\n"),
    (S, b"530 Login incorrect\r\n"),
    (C, b"USER bob\r\nPASS other\r\n"),
    (S, b"331 ok\r\n230 Logged in\r\n"),
    (C, b"PASV\r\n"),
    (S, b"227 Entering Passive Mode (192,168,1,10,4,1)\r\n"),
    (C, b"RETR plans of tea.txt\r\n"),
]
TELNET: list[Turn] = [
    (S, b"\xff\xfd\x18\xff\xfd\x20"),
    (C, b"\xff\xfb\x18\xff\xfc\x20"),
    (S, b"\xff\xfa\x18\x01\xff\xf0Debian\r\nhost login: "),
    (C, b"\xff\xfa\x18\x00xterm\xff\xf0al"),
    (C, b"j\x7fice\r\0"),
    (S, b"alice\r\nPassword: "),
    (C, b"s3cret\r\0"),
    (S, b"\r\nLast login: Friday\r\n$ "),
    (C, b"cat plans\r\0"),
]


def http(start: bytes, body: bytes, *fields: bytes) -> bytes:
    """Return an HTTP message with a body."""
    head = b"\r\n".join((start, *fields, b"Content-Length: %d" % len(body)))
    return head + b"\r\n\r\n" + body


HTTP: list[Turn] = [
    (
        C,
        http(
            b"POST /login HTTP/1.1",
            b"user=alice&pwd=s3cret",
            b"Host: chat.example",
            b"Content-Type: application/x-www-form-urlencoded",
        ),
    ),
    (S, http(b"HTTP/1.1 200 OK", b"", b"Set-Cookie: sid=1", b"Server: Apache")),
    (
        C,
        http(
            b"POST /api/send HTTP/1.1",
            json.dumps({"to": "bob", "text": "tea at four?"}).encode(),
            b"Content-Type: application/json",
        ),
    ),
    (
        S,
        http(
            b"HTTP/1.1 200 OK",
            json.dumps(
                {"messages": [{"from": {"name": "bob"}, "text": "gladly", "ts": 7}, {"id": 2}]}
            ).encode(),
            b"Content-Type: application/json; charset=utf-8",
        ),
    ),
    (C, b"GET /chat HTTP/1.1\r\nAuthorization: Basic " + b64(b"alice:other") + b"\r\n\r\n"),
    (
        S,
        http(
            b"HTTP/1.1 401 No",
            gzip.compress(
                b"<table><tr><th>USER<th>CONTENT</tr><tr><td>bob<td>packed words</tr></table>",
                mtime=0,
            ),
            b"Content-Type: text/html",
            b"Content-Encoding: gzip",
        ),
    ),
]


def frame(
    text: bytes, *, mask: bytes = b"", opcode: int = 1, final: bool = True, packed: bool = False
) -> bytes:
    """Return a WebSocket frame."""
    first = (0x80 if final else 0) | (0x40 if packed else 0) | opcode
    length = len(text)
    if length < 126:
        size = bytes([length])
    elif length < 1 << 16:
        size = b"\x7e" + struct.pack(">H", length)
    else:
        size = b"\x7f" + struct.pack(">Q", length)
    if mask:
        size = bytes([size[0] | 0x80]) + size[1:]
        text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    return bytes([first]) + size + mask + text


def packed(texts: list[bytes], *, takeover: bool = True) -> list[bytes]:
    """Pack messages as permessage-deflate does."""
    packer = zlib.compressobj(wbits=-15)
    out = []
    for text in texts:
        if not takeover:
            packer = zlib.compressobj(wbits=-15)
        data = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
        out.append(data.removesuffix(b"\0\0\xff\xff"))
    return out


UPGRADE: list[Turn] = [
    (
        C,
        (
            b"GET /ws HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    ),
    (S, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
]
MASK = b"\x37\xfa\x21\x3d"
FRAMES: list[Turn] = [
    (C, frame(b'{"to":"bob","text":"good ', mask=MASK, final=False)),
    (C, frame(b"", mask=MASK, opcode=9)),
    (C, frame(b'evening"}', mask=b"\x01\x02\x03\x04", opcode=0)),
    (S, frame(b'{"from":"bob","text":"hello"}')),
    (S, frame(b"plain words")),
    (S, frame(b"2")),
    (C, frame(packed([b'{"text":"packed words"}'])[0], mask=MASK, packed=True)),
]
WEBSOCKET = [*UPGRADE, *FRAMES]

DNS_QUESTION = bytes.fromhex("1a2b01000001000000000000") + b"\x04chat\x07example\0\0\x01\0\x01"
DNS_ANSWER = (
    bytes.fromhex("1a2b81800001000200000000")
    + b"\x04chat\x07example\0\0\x01\0\x01"
    + bytes.fromhex("c00c0005000100000e100005026e31c011")
    + bytes.fromhex("c02a0001000100000e100004c0a8010a")
)
DNS: list[Turn] = [(C, DNS_QUESTION), (S, DNS_ANSWER)]
DNS_TCP: list[Turn] = [
    (way, len(data).to_bytes(2, "big") + data) for way, data in (*DNS, (C, DNS_QUESTION))
]
WHATSAPP: list[Turn] = [
    (
        C,
        (
            b"WA\x01\x05\0\0\x1a\xf8\x05\x01\xa5\x91\x89\xfc\x12iPhone-2.12.2-5222\0\0\x13\xf8\x06\x0c"
            b"\x56\xbf\xb5\xfc\x0b15550100123\xa9"
        ),
    ),
    (S, b"\0\0\x05\xf8\x03\x01:\x91" + bytes(range(200))),
]
MQTT_TEXT = b'{"from":"bob","text":"hi alice"}'
MQTT: list[Turn] = [
    (C, b"\x10\x1d\0\x04MQTT\x04\xc2\0\x3c\0\x02c1\0\x05alice\0\x06s3cret"),
    (S, b"\x20\x02\0\0"),
    (C, b"\x82\x08\0\x01\0\x03tea\0" + b"\x30\x0f\0\x03teagood even!"),
    (S, b"\x32" + bytes([7 + len(MQTT_TEXT)]) + b"\0\x03tea\0\x01" + MQTT_TEXT),
]
SSH: list[Turn] = [
    (S, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
    (C, b"SSH-2.0-PuTTY_0.78\r\n" + bytes(range(200))),
]
SIP_TEXT = b"Watson, come here."
SIP: list[Turn] = [
    (
        C,
        (
            b"MESSAGE sip:user2@domain.com SIP/2.0\r\nVia: SIP/2.0/TCP user1pc.domain.com\r\n"
            b"From: <sip:user1@domain.com>;tag=49583\r\nTo: Two <sip:user2@domain.com>\r\n"
            b'Authorization: Digest username="user1", realm="domain.com", response="0f0f"\r\n'
            b"Call-ID: asd88asd77a@1.2.3.4\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\n"
            b"Content-Length: 18\r\n\r\n" + SIP_TEXT
        ),
    ),
    (S, b"SIP/2.0 200 OK\r\nFrom: <sip:user1@domain.com>\r\nContent-Length: 0\r\n\r\n"),
]
MSN_BODY = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n"
MSN: list[Turn] = [
    (C, b"USR 1 alice@example.org 17262740.1050826919.32308\r\n"),
    (S, b"USR 1 OK alice@example.org Alice\r\n"),
    (C, b"CAL 2 bob@example.org\r\n"),
    (S, b"JOI bob@example.org Bob%20B\r\n"),
    (C, b"MSG 3 N %d\r\n" % (len(MSN_BODY) + 5) + MSN_BODY + b"hello"),
    (S, b"MSG bob@example.org Bob %d\r\n" % (len(MSN_BODY) + 6) + MSN_BODY + b"hi you"),
    (C, b"OUT\r\n"),
]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def data_frame(content: bytes, number: int, *, kind: int = 0, flags: int = 0) -> bytes:
    """Return a frame of HTTP/2."""
    head = len(content).to_bytes(3, "big") + bytes([kind, flags])
    return head + number.to_bytes(4, "big") + content


HTTP2: list[Turn] = [
    (C, PREFACE + data_frame(b"", 0, kind=4) + data_frame(b"\x82\x86\x84", 1, kind=1, flags=4)),
    (C, data_frame(b'{"to":"bob","te', 1) + data_frame(b"\x03ping", 3, kind=1)),
    (C, data_frame(b'\x02xt":"over two"}\0\0', 1, flags=9)),
    (
        S,
        data_frame(gzip.compress(b'{"from":"bob","text":"packed two"}', mtime=0), 1, flags=1),
    ),
]


def flap(channel: int, content: bytes) -> bytes:
    """Return a frame of OSCAR."""
    return b"\x2a" + bytes([channel]) + b"\0\x01" + len(content).to_bytes(2, "big") + content


def tlv(tag: int, content: bytes) -> bytes:
    """Return a tagged value of OSCAR."""
    return tag.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def snac(family: int, kind: int, content: bytes) -> bytes:
    """Return a message of OSCAR."""
    return flap(2, family.to_bytes(2, "big") + kind.to_bytes(2, "big") + bytes(6) + content)


def oscar_text(text: bytes, charset: int = 0) -> bytes:
    """Return the block that holds a message's text."""
    return tlv(2, tlv(0x0501, b"\x01") + tlv(0x0101, charset.to_bytes(2, "big") + b"\0\0" + text))


# "s3cret" as the oldest clients sent it.
ROASTED = bytes.fromhex("8015e2b65cf2")
OSCAR: list[Turn] = [
    (S, flap(1, b"\0\0\0\x01")),
    (C, flap(1, b"\0\0\0\x01" + tlv(1, b"alice") + tlv(2, ROASTED) + tlv(3, b"ICQ 2001b"))),
    (S, snac(3, 0x0B, b"\x03bob\0\0\0\0")),
    (C, snac(4, 6, bytes(8) + b"\0\x01\x03bob" + oscar_text(b"<HTML>hello <B>bob</B></HTML>"))),
    (
        S,
        snac(
            4,
            7,
            bytes(8)
            + b"\0\x01\x03bob\0\0\0\x01"
            + tlv(1, b"\0\x10")
            + oscar_text("grüße".encode("utf-16-be"), 2),
        ),
    ),
]


def ymsg(service: int, *fields: tuple[str, str]) -> bytes:
    """Return a packet of Yahoo Messenger."""
    body = b"".join(word.encode() + b"\xc0\x80" for field in fields for word in field)
    head = b"YMSG\0\x10\0\0" + len(body).to_bytes(2, "big") + service.to_bytes(2, "big")
    return head + bytes(8) + body


YMSG: list[Turn] = [
    (C, ymsg(0x57, ("1", "alice"))),
    (S, ymsg(0x55, ("7", "bob"))),
    (C, ymsg(6, ("1", "alice"), ("5", "bob"), ("14", "<font face=x>hello</font>"))),
    (S, ymsg(6, ("4", "bob"), ("5", "alice"), ("14", "hi there"))),
]
NOISE: list[Turn] = [(C, bytes(range(256)) * 2), (S, b"\x9c" * 40)]


def corpus() -> dict[str, tuple[str, list[Turn]]]:
    """Return every conversation by name, with its transport."""
    tcp = {
        "irc": IRC,
        "irc_sasl": IRC_SASL,
        "xmpp": XMPP,
        "smtp": SMTP,
        "pop3": POP3,
        "imap": IMAP,
        "ftp": FTP,
        "telnet": TELNET,
        "http": HTTP,
        "websocket": WEBSOCKET,
        "frames": FRAMES,
        "dns_tcp": DNS_TCP,
        "whatsapp": WHATSAPP,
        "noise": NOISE,
        "oscar": OSCAR,
        "ymsg": YMSG,
        "http2": HTTP2,
        "mqtt": MQTT,
        "ssh": SSH,
        "sip": SIP,
        "msn": MSN,
        "tls12": list(tls("TLSv1_2")[0]),
        "tls13": list(tls("TLSv1_3")[0]),
        "ftp_tls": list(
            tls(before=((S, b"220 FTP\r\n"), (C, b"AUTH TLS\r\n"), (S, b"234 ok\r\n")))[0]
        ),
    }
    return {**{name: ("tcp", turns) for name, turns in tcp.items()}, "dns": ("udp", DNS)}


def shuffled_sides(turns: list[Turn]) -> list[Turn]:
    """Return a conversation with its directions swapped: a capture that began late."""
    return [(not way, data) for way, data in turns]


def noise(count: int) -> bytes:
    """Return random bytes."""
    return os.urandom(count)

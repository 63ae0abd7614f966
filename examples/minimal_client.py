"""A client for a sockproto agent in plain Python, written from docs/protocol.rst alone.

    python3 minimal_client.py PORT KEYRING COMMAND [ARGUMENT ...]

Plaintext on loopback only: the standard library's ssl cannot give the TLS exporter value.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import sys
import tomllib

port, keyring, *argv = sys.argv[1:]
with open(keyring, "rb") as file:
    key = tomllib.load(file)["key"][0]
secret = base64.b64decode(key["secret"])
stream = socket.create_connection(("127.0.0.1", int(port))).makefile("rwb")


def receive():
    (length,) = struct.unpack(">I", stream.read(4) or sys.exit("the agent closed the connection"))
    return stream.read(length)


def send(payload):
    stream.write(struct.pack(">I", len(payload)) + payload)
    stream.flush()


def mac(key, message):
    return hmac.digest(key, message, "sha256")


def lp8(text):
    return bytes([len(text)]) + text


def lp32(value):
    return struct.pack(">I", len(value)) + value


# The login: HELLO, AUTH, OK.
hello, nonce = receive(), os.urandom(32)
assert hello[:5] == b"\x01\x01\x01\x01\x01", "not the HELLO of a plaintext listener"
assert hello[5:11] == lp8(b"agent"), "another service"
auth0 = b"\x02\x01\x01\x01" + lp8(key["id"].encode()) + lp8(b"minimal") + nonce
prk = mac(hello[-32:] + nonce, secret)
t1 = hashlib.sha256(b"sockproto-auth-v1\0" + lp32(hello) + lp32(auth0) + lp32(b"")).digest()
tag_c = mac(mac(prk, b"sockproto-auth-v1 client" + t1 + b"\x01"), t1)
send(auth0 + tag_c)
ok = receive()
t2 = hashlib.sha256(t1 + tag_c + lp32(ok[:-32])).digest()
tag_s = mac(mac(prk, b"sockproto-auth-v1 server" + t1 + b"\x01"), t2)
if ok[:1] != b"\x03" or not hmac.compare_digest(ok[-32:], tag_s):
    sys.exit("the login was refused, ref " + hashlib.sha256(hello).hexdigest()[:8])

# SETTINGS, then one channel with a command.
send(b"\x01" + bytes(4) + json.dumps({"max_frame": 131072}).encode())
request = {"service": "command", "argv": argv, "credit": {"1": 65536, "2": 65536}}
send(struct.pack(">BI", 2, 1) + json.dumps(request).encode())
while True:
    frame = receive()
    kind, body = frame[0], frame[5:]
    if kind == 5:  # DATA: pass it on, and grant as much again
        (sys.stdout if body[0] == 1 else sys.stderr).buffer.write(body[1:])
        send(struct.pack(">BIBI", 8, 1, body[0], len(body) - 1))
    elif kind in (4, 13):  # REJECT, GOAWAY
        sys.exit(body[4 * (kind == 13) :].decode())
    elif kind == 10:  # CLOSE
        sys.exit(json.loads(body).get("exit_status", 255))

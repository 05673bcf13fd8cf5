"""
What is sent in place of HTTP: bytes, and the statuses that come back, in order.

`{auth}` stands for the headers of a caller with a good token, `{path}` for one that answers 200 to them. Whatever is not
meant to be read holds CANARY, which no answer may repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from tests.boundary.bare_http import CANARY
from tests.boundary.ingress_door import HIERARCHY, REGISTER, TENANT

Case: TypeAlias = tuple[bytes, tuple[int, ...]]

_GOOD: Final = f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\n{{auth}}\r\n"
_LAST: Final = f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{{auth}}\r\n"
_POST: Final = f"POST {REGISTER} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{{auth}}"
_CHUNKED: Final = f"{_POST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

_BODY_CHUNK: Final = "2\r\n{}\r\n0\r\n"


def _get(target: str = HIERARCHY, *lines: str, method: str = "GET", version: str = "HTTP/1.1", host: str = "Host: x\r\n") -> str:
    more = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {target} {version}\r\n{host}Connection: close\r\n{more}{{auth}}\r\n"


def _post(*lines: str, body: str = "{}") -> str:
    return _POST + "".join(f"{line}\r\n" for line in ("Connection: close", *lines)) + "\r\n" + body


_TEXTS: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    # No HTTP at all.
    "empty lines only": ("\r\n\r\n\r\n", ()),
    "one word": (f"{CANARY}\r\n\r\n", (400,)),
    "http 0.9": (f"GET {HIERARCHY}\r\n", ()),
    "tls hello": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
    "http/2 preface": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "http/2 version": (_get(version="HTTP/2.0"), (400,)),
    "http/3 version": (_get(version="HTTP/3.0"), (400,)),
    "http/1.9": (_get(version="HTTP/1.9"), (400,)),
    "no version": (f"GET {HIERARCHY} \r\nHost: x\r\n\r\n", (400,)),
    "lower-case http": (_get(version="http/1.1"), (400,)),
    "icy": (_get(version="ICE/1.0", method="SOURCE"), (405,)),
    "rtsp": (_get(version="RTSP/1.0", method="DESCRIBE"), (405,)),
    "smtp": (f"HELO {CANARY}\r\n", (400,)),
    "redis": ("*1\r\n$4\r\nPING\r\n", (400,)),
    "a response": ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (400,)),
    "proxy protocol": ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + _LAST, (400,)),
    "null bytes": ("\0" * 100, (400,)),
    "leading space": (" " + _LAST, (400,)),
    "leading empty lines": ("\r\n\r\n" + _LAST, (200,)),
    # Methods.
    "unknown method": (_get(method="HUNTER2"), (400,)),
    "lower-case method": (_get(method="get"), (400,)),
    "method with a nul": (_get(method="GE\0T"), (400,)),
    "long method": (_get(method="G" * 10_000), (400,)),
    "no method": (_get(method=""), (400,)),
    **{f"{method} of a path": (_get(method=method), (405,)) for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE")},
    **{f"{method} of a path": (_get(method=method), (405,)) for method in ("PROPFIND", "MKCOL", "PURGE", "SEARCH", "LINK")},
    **{f"{method} of no path": (_get("/none", method=method), (404,)) for method in ("OPTIONS", "TRACE", "PUT", "PROPFIND")},
    "TRACE with a cookie": (_get("/", f"Cookie: {CANARY}", method="TRACE"), (404,)),
    "OPTIONS *": (_get("*", method="OPTIONS"), (404,)),
    "GET *": (_get("*"), (404,)),
    "CONNECT": (_get(f"{CANARY}.example.com:443", method="CONNECT"), (404,)),
    "CONNECT of a path": (_get("/", method="CONNECT"), (404,)),
    # Targets.
    "absolute form": (_get(f"http://x{HIERARCHY}"), (200,)),
    "absolute form, another host": (_get(f"http://{CANARY}.example.com{HIERARCHY}"), (200,)),
    "absolute form, no path": (_get("http://x"), (404,)),
    "absolute form, a query only": (_get(f"http://x?{CANARY}"), (404,)),
    "absolute form, user": (_get(f"http://{CANARY}:{CANARY}@x{HIERARCHY}"), (200,)),
    "absolute form, no host": (_get("http:///"), (400,)),
    "another scheme": (_get("file:///etc/passwd"), (400,)),
    "authority form": (_get("x:80"), (400,)),
    "no slash": (_get(CANARY), (400,)),
    "empty target": (_get(""), (400,)),
    "root": (_get("/"), (404,)),
    "two slashes": (_get("//"), (404,)),
    "a host in the path": (_get(f"//{CANARY}{HIERARCHY}"), (404,)),
    "trailing slash": (_get(HIERARCHY + "/"), (404,)),
    "doubled slash": (_get(HIERARCHY.replace("/customers", "//customers")), (404,)),
    "dots": (_get("/api/../api/v2.1/customers/individual/categorization/hierarchy"), (404,)),
    "encoded dots": (_get("/api/%2e%2e/api/v2.1/customers/individual/categorization/hierarchy"), (404,)),
    "encoded slash": (_get(HIERARCHY.replace("individual/", "individual%2F")), (404,)),
    "encoded slash, lower": (_get(HIERARCHY.replace("individual/", "individual%2f")), (404,)),
    "encoded slash, twice": (_get(HIERARCHY.replace("individual/", "individual%252f")), (404,)),
    "encoded backslash": (_get(f"/static-offline-docs/..%5c..%5c{CANARY}"), (404,)),
    "encoded nul": (_get(f"/api/v2.1/customers/{CANARY}%00"), (404,)),
    "encoded letters": (_get(HIERARCHY.replace("hierarchy", "%68ierarchy")), (200,)),
    "encoded line end": (_get(f"/api/v2.1/customers/x%0d%0aX-{CANARY}:%201"), (404,)),
    "half an escape": (_get("/api/v2.1/customers/%"), (404,)),
    "no hex": (_get("/api/v2.1/customers/%zz"), (404,)),
    "overlong utf-8": (_get("/api/v2.1/customers/%c0%af"), (404,)),
    "no utf-8": (_get("/api/v2.1/customers/%ff%fe"), (404,)),
    "a surrogate": (_get("/api/v2.1/customers/%ed%a0%80"), (404,)),
    "bidi": (_get("/api/v2.1/customers/%e2%80%ae"), (404,)),
    "raw non-ascii": (_get("/api/v2.1/customers/\xe4"), (400,)),
    "raw nul": (_get("/api/v2.1/customers/\0"), (400,)),
    "raw tab": (_get("/api/v2.1/customers/\t"), (400,)),
    "semicolon": (_get(HIERARCHY + f";{CANARY}=1"), (404,)),
    "fragment": (_get(HIERARCHY + f"#{CANARY}"), (400,)),
    "query": (_get(HIERARCHY + f"?{CANARY}=%00%ff&&&=&{CANARY}"), (200,)),
    "long query": (_get(HIERARCHY + "?" + "a" * 8_000), (200,)),
    "path of 8 KB": (_get("/" + "a" * 8_000), (404,)),
    "path of 20 KB": (_get("/" + "a" * 20_000), (413,)),
    "path of 70 KB": (_get("/" + "a" * 70_000), (413,)),
    "traversal in the documentation": (_get("/static-offline-docs/%2e%2e/%2e%2e/etc/passwd"), (404,)),
    "a file of ours": (_get("/static-offline-docs/../main.py"), (404,)),
    # Headers.
    "no host": (_get(host=""), (400,)),
    "two hosts": (_get(host=f"Host: x\r\nHost: {CANARY}\r\n"), (400,)),
    "another host": (_get(host=f"Host: {CANARY}.example.com\r\n"), (200,)),
    "empty host": (_get(host="Host:\r\n"), (200,)),
    "nul in a value": (_get(HIERARCHY, f"X-A: {CANARY}\0"), (400,)),
    "nul in a name": (_get(HIERARCHY, f"X-{CANARY}\0: 1"), (400,)),
    "carriage return in a value": (_get(HIERARCHY, f"X-A: {CANARY}\rX-B: 1"), (400,)),
    "control in a value": (_get(HIERARCHY, "X-A: \x01"), (400,)),
    "delete in a value": (_get(HIERARCHY, "X-A: \x7f"), (400,)),
    "non-ascii in a value": (_get(HIERARCHY, f"X-A: \xff{CANARY}"), (200,)),
    "non-ascii in a name": (_get(HIERARCHY, "X-\xe4: 1"), (400,)),
    "non-ascii tenant": (f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{{token}}X-Tenant-ID: \xe4\r\n\r\n", (403,)),
    "non-ascii token": (
        f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer \xe4.\xe4.\xe4\r\n\r\n",
        (401,),
    ),
    "two tokens": (_get(HIERARCHY, f"Authorization: Bearer {CANARY}"), (401,)),
    "two tenants": (_get(HIERARCHY, f"X-Tenant-ID: {CANARY}"), (403,)),
    "tenants in a list": (_get(HIERARCHY, f"X-Tenant-ID: a, {CANARY}"), (403,)),
    "folded header": (_get(HIERARCHY, "X-A: 1", " 2"), (400,)),
    "folded first header": (f"GET {HIERARCHY} HTTP/1.1\r\n Host: x\r\n\r\n", (400,)),
    "space before the colon": (_get(HIERARCHY, "X-A : 1"), (400,)),
    "no colon": (_get(HIERARCHY, CANARY), (400,)),
    "empty name": (_get(HIERARCHY, ": 1"), (400,)),
    "bare line feeds": (f"GET {HIERARCHY} HTTP/1.1\nHost: x\n\n", (400,)),
    "one header of 20 KB": (_get(HIERARCHY, "X-A: " + "a" * 20_000), (413,)),
    "one header of 100 KB": (_get(HIERARCHY, "X-A: " + "a" * 100_000), (413,)),
    "one name of 20 KB": (_get(HIERARCHY, "a" * 20_000 + ": 1"), (413,)),
    "headers of 40 KB": (_get(HIERARCHY, *["X-A: " + "a" * 1_000] * 40), (413,)),
    "10,000 headers": (_get(HIERARCHY, *["X: 1"] * 10_000), (413,)),
    "1,000 headers": (_get(HIERARCHY, *["X: 1"] * 1_000), (200,)),
    "headers without end": ("GET / HTTP/1.1\r\nHost: x\r\n" + "X-A: 1\r\n" * 50_000, (413,)),
    "trace of another kind": (_get(HIERARCHY, f"traceparent: {CANARY}"), (200,)),
    "two traces": (_get(HIERARCHY, f"traceparent: {CANARY}", f"traceparent: {CANARY}"), (200,)),
    "etag of another kind": (_get(HIERARCHY, f'If-None-Match: "{CANARY}", W/, ,,'), (200,)),
    "range": (_get(HIERARCHY, "Range: bytes=0-1,2-3,-1"), (200,)),
    "forwarded": (_get(HIERARCHY, f"X-Forwarded-Host: {CANARY}", f"Forwarded: host={CANARY}"), (200,)),
    "method override": (_get(HIERARCHY, "X-HTTP-Method-Override: DELETE"), (200,)),
    "accept of another kind": (_get("/problems/email-taken", f"Accept: {CANARY}/{CANARY};q=nan"), (200,)),
    # Other protocols.
    "upgrade to websocket": (
        _get(HIERARCHY, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"),
        (200,),
    ),
    "upgrade to h2c": (_get(HIERARCHY, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), (200,)),
    "upgrade, then another request": (_get(HIERARCHY, "Connection: Upgrade", "Upgrade: h2c") + _GOOD, (200,)),
    "upgrade with a body": (_post("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(_GOOD)}", body=_GOOD), (400,)),
    "upgrade with chunks": (_post("Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", body="0\r\n\r\n"), (400,)),
    # Lengths.
    "two lengths that agree": (_post("Content-Length: 2", "Content-Length: 2"), (400,)),
    "two lengths that differ": (_post("Content-Length: 2", "Content-Length: 200"), (400,)),
    "lengths in a list": (_post("Content-Length: 2, 2"), (400,)),
    "negative length": (_post("Content-Length: -1"), (400,)),
    "length with a sign": (_post("Content-Length: +2"), (400,)),
    "hexadecimal length": (_post("Content-Length: 0x2"), (400,)),
    "length with an underscore": (_post("Content-Length: 0_2"), (400,)),
    "length of other digits": (_post("Content-Length: \xb2"), (400,)),
    "empty length": (_post("Content-Length:"), (400,)),
    "length beyond 64 bits": (_post("Content-Length: 99999999999999999999999"), (400,)),
    "length of 63 bits": (_post("Content-Length: 9223372036854775807"), (413,)),
    "no length": (_post(body=""), (400,)),
    "body shorter than its length": (_post("Content-Length: 200"), ()),
    "body longer than its length": (_post("Content-Length: 2", body="{}{}{}"), (400,)),
    "length of a GET": (_get(HIERARCHY, "Content-Length: 7") + CANARY, (200,)),
    "large GET": (_get(HIERARCHY, "Content-Length: 3000000") + "a" * 3_000_000, (200,)),
    "large POST to nowhere": (_POST.replace(REGISTER, "/none") + "Content-Length: 3000000\r\n\r\n" + "a" * 3_000_000, (404,)),
    # Chunks.
    "length and chunks": (_post("Content-Length: 2", "Transfer-Encoding: chunked", body="0\r\n\r\n"), (400,)),
    "chunks and length": (_post("Transfer-Encoding: chunked", "Content-Length: 6", body="0\r\n\r\nG"), (400,)),
    "chunked twice": (_post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunked, identity": (_post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"), (400,)),
    "identity": (_post("Transfer-Encoding: identity", "Content-Length: 2"), (400,)),
    "gzip, chunked": (_post("Transfer-Encoding: gzip, chunked", body="2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "xchunked": (_post("Transfer-Encoding: xchunked", body="0\r\n\r\n"), (400,)),
    "chunked with a tab": (_post("Transfer-Encoding:\tchunked", body="2\r\n{}\r\n0\r\n\r\n"), (400,)),
    "chunked with a vertical tab": (_post("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"), (400,)),
    "chunked in quotes": (_post('Transfer-Encoding: "chunked"', body="0\r\n\r\n"), (400,)),
    "chunked with a space before the colon": (_post("Transfer-Encoding : chunked", "Content-Length: 2"), (400,)),
    "no size": (_CHUNKED + f"{CANARY}\r\n", (400,)),
    "negative size": (_CHUNKED + "-1\r\n\r\n", (400,)),
    "size with a prefix": (_CHUNKED + "0x2\r\n{}\r\n0\r\n\r\n", (400,)),
    "size beyond 64 bits": (_CHUNKED + "fffffffffffffffff\r\n{}\r\n", (400,)),
    "size with spaces": (_CHUNKED + "2 \r\n{}\r\n0\r\n\r\n", (400,)),
    "size and a bare line feed": (_CHUNKED + "2\n{}\r\n0\r\n\r\n", (400,)),
    "chunk longer than its size": (_CHUNKED + "2\r\n{}{}\r\n0\r\n\r\n", (400,)),
    "chunk without end": (_CHUNKED + "2\r\n{}0\r\n\r\n", (400,)),
    "extension of 100 KB": (_CHUNKED + "2;" + "a" * 100_000 + "\r\n{}\r\n0\r\n\r\n", (400,)),
    "one chunk of 100 KB": (_CHUNKED + f"{100_000:x}\r\n" + " " * 100_000 + "\r\n0\r\n\r\n", (413,)),
    "trailers without end": (_CHUNKED + "2\r\n{}\r\n0\r\n" + "X-A: 1\r\n" * 50_000, (400,)),
    "one trailer of 300 KB": (_CHUNKED + "2\r\n{}\r\n0\r\nX-A: " + "a" * 300_000, (400,)),
    "a tenant in the trailer": (_CHUNKED.replace("{auth}", "{token}") + f"{_BODY_CHUNK}X-Tenant-ID: {TENANT.id}\r\n\r\n", (400,)),
    "a token in the trailer": (_CHUNKED.replace("{auth}", "") + f"{_BODY_CHUNK}{{auth}}\r\n", (401,)),
    # HTTP/1.0.
    "http 1.0": (_get(version="HTTP/1.0", host=""), (200,)),
    "http 1.0, kept alive": (_get(HIERARCHY, "Connection: keep-alive", version="HTTP/1.0"), (200,)),
    "http 1.0, chunks": (_POST.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", (400,)),
    # One after the other on one connection.
    "three at once": (_GOOD + _GOOD + _LAST, (200, 200, 200)),
    "20 at once": (_GOOD * 19 + _LAST, (200,) * 20),
    "a good one and garbage": (_GOOD + CANARY + "\r\n\r\n", (200, 400)),
    "two good ones and garbage": (_GOOD + _GOOD + "\0\0\0\r\n", (200, 200, 400)),
    "100 at once": (_GOOD * 100, (200,) * 65 + (503,)),
    "garbage and a good one": (CANARY + "\r\n\r\n" + _GOOD, (400,)),
    "a good one after the last": (_LAST + _GOOD, (200,)),
    "a body that looks like a request": (_post(f"Content-Length: {len(_GOOD)}", body=_GOOD), (400,)),
    "a bad body, then a good request": (_POST + "Content-Length: 2\r\n\r\n{}" + _LAST, (400, 200)),
    "an end of file in the headers": (f"GET {HIERARCHY} HTTP/1.1\r\nHost: x\r\nX-A: {CANARY}", ()),
    "an end of file in the path": (f"GET /{CANARY}", ()),
    "an end of file in a chunk": (_CHUNKED + "100\r\n{", ()),
    "expect another thing": (_post(f"Expect: {CANARY}", "Content-Length: 2"), (400,)),
}

CASES: Final[Mapping[str, Case]] = {name: (text.encode("latin-1"), statuses) for name, (text, statuses) in _TEXTS.items()}

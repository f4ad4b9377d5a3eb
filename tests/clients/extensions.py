"""Sends with smtplib what RFC 3461 (DSN), RFC 3030 (BDAT) and RFC 6531 (SMTPUTF8) allow.

Arguments: host, port, user, password. Ends with 0 if the server took everything, else with a line that says what it did not.
"""

import smtplib
import sys

LIMIT_SECONDS = 20
FROM, TO = "suzuki@mail.example.jp", "ann@example.org"


def check(answer, code):
    if answer[0] != code:
        sys.exit(f"{answer} instead of {code}")


def text(subject):
    return f"From: {FROM}\r\nTo: {TO}\r\nSubject: {subject}\r\n\r\nText.\r\n.\r\n".encode()


def in_chunks(client, message):
    check(client.mail(FROM), 250)
    check(client.rcpt(TO), 250)
    for begin in range(0, len(message), 20):
        chunk = message[begin : begin + 20]
        last = " LAST" if begin + 20 >= len(message) else ""
        client.send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
        check(client.getreply(), 250)


def main(host, port, user, password):
    with smtplib.SMTP(host, int(port), timeout=LIMIT_SECONDS) as client:
        client.ehlo()
        for name in ["size", "8bitmime", "dsn", "etrn", "pipelining", "enhancedstatuscodes", "chunking", "smtputf8"]:
            if not client.has_extn(name):
                sys.exit(f"EHLO does not offer {name}")
        client.login(user, password)
        asked = ["RET=HDRS", "ENVID=QQ314159"]
        client.sendmail(FROM, [TO], text("with a report"), asked, ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Ann@example.org"])
        in_chunks(client, text("in chunks"))
        client.sendmail("用户@example.net", [TO], text("in utf8"), ["SMTPUTF8", "BODY=8BITMIME"])
        check(client.docmd("ETRN", "elsewhere.example"), 459)


main(*sys.argv[1:])

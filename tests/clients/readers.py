"""Reads the sample mail with Python's own clients: poplib, imaplib, smtplib.

Arguments: host, SMTP port, POP3 port, IMAP port, user, password. Ends with 0 if everything is
as expected, else with a line that says what is not.
"""

import email
import email.policy
import imaplib
import poplib
import smtplib
import sys
import time

UIDS = ["967151553", "967151554", "967151555", "967151556", "967151557", "967151558", "967151560", "967151561"]
LIMIT_SECONDS = 20


def check(condition, words):
    if not condition:
        sys.exit(words)


def pop3(host, port, user, password):
    box = poplib.POP3(host, port, timeout=LIMIT_SECONDS)
    check("UIDL" in box.capa(), "CAPA does not name UIDL")
    box.user(user)
    box.pass_(password)
    ids = [line.split()[1].decode() for line in box.uidl()[1]]
    check(ids[: len(UIDS)] == UIDS, f"UIDL gives {ids}")
    message = email.message_from_bytes(b"\r\n".join(box.top(1, 100)[1]), policy=email.policy.default)
    check(message["Subject"] == "定例会議のお知らせ", f"subject {message['Subject']!r}")
    check("第二会議室" in message.get_content(), "text of message 1")
    box.quit()


def imap(host, port, user, password):
    box = imaplib.IMAP4(host, port, timeout=LIMIT_SECONDS)
    box.login(user, password)
    status, data = box.select("INBOX", readonly=True)
    check(status == "OK" and int(data[0]) >= len(UIDS), f"SELECT: {status} {data}")
    status, data = box.uid("SEARCH", "UNSEEN")
    check(data[0].split()[:2] == [b"967151554", b"967151555"], f"UNSEEN: {data}")
    status, data = box.uid("FETCH", UIDS[4], "(BODY.PEEK[])")
    message = email.message_from_bytes(data[0][1], policy=email.policy.default)
    names = [part.get_filename() for part in message.walk() if part.get_filename()]
    check(names == ["見積.csv", "stamp.png"], f"attachments {names}")
    status, data = box.uid("FETCH", UIDS[4], "(BODY.PEEK[2])")
    check(b"".join(data[0][1].split()).isascii(), "part 2 is base64")
    status, data = box.select("Projects.2022", readonly=True)
    check(status == "OK" and data[0] == b"2", f"Projects.2022: {status} {data}")
    box.logout()


def smtp(host, port, user, password, imap_port):
    with smtplib.SMTP(host, port, timeout=LIMIT_SECONDS) as relay:
        relay.ehlo("client.example.net")
        relay.login(user, password)
        mail = email.message.EmailMessage()
        mail["From"] = "suzuki@mail.example.jp"
        mail["To"] = "suzuki@mail.example.jp"
        mail["Subject"] = "Python から"
        mail.set_content("本文です。\n.\n..\nFrom <a@example.net> x\n\nFrom here\n")
        # Not send_message(): that one puts ">" before lines that begin with "From ".
        relay.sendmail("suzuki@mail.example.jp", ["suzuki@mail.example.jp"], mail.as_bytes(policy=email.policy.SMTP))
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        box = imaplib.IMAP4(host, imap_port, timeout=LIMIT_SECONDS)
        box.login(user, password)
        box.select("INBOX", readonly=True)
        status, data = box.fetch("*", "(BODY.PEEK[])")
        message = email.message_from_bytes(data[0][1], policy=email.policy.default)
        box.logout()
        if message["Subject"] == "Python から":
            wanted = "本文です。\n.\n..\nFrom <a@example.net> x\n\nFrom here\n"
            got = message.get_content().replace("\r\n", "\n")
            check(got == wanted, f"text came back as {got!r}")
            return
        time.sleep(0.1)
    sys.exit("the message sent by smtplib did not arrive")


def main():
    host, user, password = sys.argv[1], sys.argv[5], sys.argv[6]
    smtp_port, pop3_port, imap_port = (int(text) for text in sys.argv[2:5])
    pop3(host, pop3_port, user, password)
    imap(host, imap_port, user, password)
    smtp(host, smtp_port, user, password, imap_port)


main()

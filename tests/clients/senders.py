"""Sends mail with Python's smtplib in every way that the server offers.

Arguments: host, SMTP port, submission port, SMTP over TLS port, user, password, recipient. Prints the subject of each message that was
sent. Ends with 0 if everything is as expected, else with a line that says what is not.
"""

import email.message
import email.policy
import smtplib
import ssl
import sys

LIMIT_SECONDS = 20
MECHANISMS = ["PLAIN", "LOGIN", "CRAM-MD5"]


def unverified():
    """A context for a server whose certificate is self-signed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(way, host, port):
    """A session, encrypted unless the way is plain."""
    if way == "TLS":
        return smtplib.SMTP_SSL(host, port, timeout=LIMIT_SECONDS, context=unverified())
    session = smtplib.SMTP(host, port, timeout=LIMIT_SECONDS)
    if way == "STARTTLS":
        session.starttls(context=unverified())
    return session


def login(session, mechanism, user, password):
    session.user, session.password = user, password
    methods = {"PLAIN": session.auth_plain, "LOGIN": session.auth_login, "CRAM-MD5": session.auth_cram_md5}
    # CRAM-MD5 begins with the server's challenge.
    code, text = session.auth(mechanism, methods[mechanism], initial_response_ok=mechanism != "CRAM-MD5")
    if code != 235:
        sys.exit(f"{mechanism}: {code} {text}")


def message(subject, user, recipient):
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = f"{user}@mail.example.jp", recipient, subject
    mail.set_content("one\n.\n..\n")
    return mail


def main():
    host, user, password, recipient = sys.argv[1], *sys.argv[5:8]
    ports = dict(zip(["plain", "STARTTLS", "TLS"], (int(text) for text in sys.argv[2:5])))
    for way, port in ports.items():
        for mechanism in MECHANISMS:
            with connect(way, host, port) as session:
                session.ehlo("client.example.net")
                if mechanism not in session.esmtp_features.get("auth", "").split():
                    sys.exit(f"{way}: {mechanism} is not offered")
                login(session, mechanism, user, password)
                mail = message(f"smtplib {way} {mechanism}", user, recipient)
                session.send_message(mail)
                print(mail["Subject"])


main()

"""What Python's email package and dkimpy make of posts that went through a list.

    lists.py sign KEYS IN OUT     signs a message with the key in KEYS, which is made first
    lists.py verify KEYS FILE     says "good" or "bad"
    lists.py read FILE            prints subject, From and text, one behind the other
"""

import base64
import email
import email.policy
import pathlib
import subprocess
import sys


def key(keys):
    """The private key as PEM, and the TXT record of the public one."""
    pem = pathlib.Path(keys, "key.pem")
    if not pem.exists():
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(pem), "2048"], check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "rsa", "-in", str(pem), "-pubout", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    return pem.read_bytes(), b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def main(command, *args):
    if command == "read":
        message = email.message_from_bytes(pathlib.Path(args[0]).read_bytes(), policy=email.policy.default)
        text = message.get_body(("plain",)).get_content()
        print(message["Subject"], message["From"], text.replace("\r\n", "\n"), sep="\n")
        return
    import dkim

    private, record = key(args[0])
    if command == "sign":
        message = pathlib.Path(args[1]).read_bytes()
        signature = dkim.sign(message, b"test", b"example.net", private, canonicalize=(b"simple", b"simple"))
        pathlib.Path(args[2]).write_bytes(signature + message)
    else:
        good = dkim.verify(pathlib.Path(args[1]).read_bytes(), dnsfunc=lambda name, timeout=5: record)
        print("good" if good else "bad")


main(*sys.argv[1:])

"""Uses the IMAP extensions with the IMAPClient library.

Arguments: host, IMAP port, user, password. Ends with 0 if everything is as expected, else with a line
that says what is not.
"""

import sys
import threading
from datetime import datetime, timezone

import imapclient
from imapclient import IMAPClient

SECONDS = 20
FOLDER = "会議.2024"


def check(condition, words):
    if not condition:
        sys.exit(words)


def mail(subject, body, more=""):
    text = f"From: a@example.org\r\nSubject: {subject}\r\nDate: Mon, 2 Mar 2020 10:00:00 +0900\r\n{more}\r\n{body}\r\n"
    return text.encode()


def connect(host, port, user, password):
    client = IMAPClient(host, port=port, ssl=False, timeout=SECONDS)
    client.login(user, password)
    return client


def folders(client):
    client.create_folder(FOLDER)
    client.create_folder("Sent Things")
    names = [name for _, _, name in client.list_folders()]
    check(FOLDER in names, f"folders {names}")
    check(client.find_special_folder(b"\\Sent") is not None, "no folder for sent mail")
    client.subscribe_folder(FOLDER)
    check(FOLDER in [name for _, _, name in client.list_sub_folders()], "subscribed folders")
    check(client.namespace().personal[0] == ("", "."), f"namespace {client.namespace()}")
    status = client.folder_status(FOLDER, ["MESSAGES", "UIDNEXT", "HIGHESTMODSEQ"])
    check(status[b"MESSAGES"] == 0 and status[b"HIGHESTMODSEQ"] > 0, f"status {status}")


def messages(client):
    client.multiappend(FOLDER, [mail("one", "見積書"), mail("Re: two", "b"), mail("two", "c")])
    client.append(FOLDER, mail("four", "d"), flags=["\\Flagged"], msg_time=datetime(1996, 7, 17, tzinfo=timezone.utc))
    selected = client.select_folder(FOLDER)
    check(selected[b"EXISTS"] == 4 and selected[b"HIGHESTMODSEQ"] > 0, f"select {selected}")
    check(client.search(["BODY", "見積"], charset="UTF-8") == client.search()[:1], "search in Japanese")
    uids = client.search()
    check(client.sort("REVERSE ARRIVAL")[-1] == uids[3], "sort by arrival")
    check(client.sort(["SUBJECT"]) == [uids[3], uids[0], uids[1], uids[2]], f"sort {client.sort(['SUBJECT'])}")
    threads = client.thread("REFERENCES")
    check((uids[2], uids[1]) in threads or (uids[1], uids[2]) in threads, f"threads {threads}")
    check(len(client.thread("ORDEREDSUBJECT")) == 3, "threads by subject")
    return uids


def changes(client, uids):
    before = max(data[b"MODSEQ"][0] for data in client.fetch(uids, ["MODSEQ"]).values())
    client.add_flags(uids[0], ["\\Answered", "$Work"])
    changed = client.fetch(uids, ["FLAGS"], ["CHANGEDSINCE %d" % before])
    check(set(changed) == {uids[0]}, f"changed {changed}")
    check(b"$Work" in changed[uids[0]][b"FLAGS"], f"flags {changed}")
    details = client.fetch(uids[3], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "PREVIEW", "EMAILID"])[uids[3]]
    check(details[b"ENVELOPE"].subject == b"four" and details[b"PREVIEW"] == b"d", f"details {details}")
    client.move(uids[3:], "Sent Things")
    check(client.search() == uids[:3], "after a move")
    client.delete_messages(uids[:1])
    client.uid_expunge(uids[:1])
    check(client.search() == uids[1:3], "after UID EXPUNGE")


def waits(client, arguments):
    client.idle()
    timer = threading.Timer(0.2, lambda: connect(*arguments).append(FOLDER, mail("new", "x")))
    timer.start()
    answers = client.idle_check(timeout=SECONDS)
    client.idle_done()
    timer.join()
    check((3, b"EXISTS") in answers, f"IDLE tells {answers}")


def main():
    host, port, user, password = sys.argv[1:]
    arguments = (host, int(port), user, password)
    client = connect(*arguments)
    for wanted in ["IMAP4REV2", "CONDSTORE", "QRESYNC", "SORT", "MULTIAPPEND", "SPECIAL-USE", "QUOTA"]:
        check(client.has_capability(wanted), f"{wanted} is not announced")
    check(client.id_({"name": "test"}) is not None, "ID")
    check(b"CONDSTORE" in client.enable("CONDSTORE"), "ENABLE")
    client.get_quota_root("INBOX")
    folders(client)
    uids = messages(client)
    changes(client, uids)
    waits(client, arguments)
    client.close_folder()
    client.delete_folder(FOLDER)
    client.logout()
    print("fine with IMAPClient", imapclient.__version__)


main()

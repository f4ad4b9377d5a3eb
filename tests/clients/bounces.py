"""Says which addresses flufl.bounce finds in each of the files that are named: a line for each, sorted."""

import email
import pathlib
import sys

from flufl.bounce import scan_message

for name in sys.argv[1:]:
    message = email.message_from_bytes(pathlib.Path(name).read_bytes())
    print(*sorted(address.decode() for address in scan_message(message)))

from recorded import recorded
from fed_em_server.audit.verify import verify
from fed_em_server.audit.checklist import checklist
from rich.console import Console
import time

def test_x():
    r=recorded()
    t=time.time()
    v=verify(r.files,r.roster,r.logs)
    print(time.time()-t)
    Console(width=150).print(checklist(v))
    print(len(r.files.entries), [e.kind for e in r.entries])
    for l in r.lines: print(len(l), l[:60])

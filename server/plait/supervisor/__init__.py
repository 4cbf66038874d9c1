"""Knows how a process of a session is started, kept, stopped and found again, whatever happens to the daemon.

A *run* is one supervised process (a set-up command, the agent, a check). `program` is what keeps it: one file, run by
itself. `runs` is the daemon's side: it writes the intent, starts the program, and asks what became of the run.

The run directory is the truth, and everything about the run lies in it:

| file | content |
|---|---|
| `run.json` | the intent, on disk before anything happens; no environment, which may hold secrets |
| `program.py`, `program.pyc` | a copy of the program, as it is and compiled |
| `lock` | held (flock) by the supervisor for life; who can take it knows that there is no supervisor; never unlinked |
| `supervisor.json` | who supervises whom since when; on disk before the agent executes: without it nothing happened |
| `output.log` | the agent's stdout and stderr, which it writes itself unless it has a terminal |
| `errors.log` | the agent's stderr, where it is kept apart; what it says there is no part of its protocol |
| `hooks.log` | what an agent in a terminal tells its hooks, one JSON object a line, which they write themselves |
| `input` | the FIFO that is the agent's stdin; a keeper process holds it open: our death is no end of file |
| `input.ids` | one line `{"id", "state": "begun"\\|"written"}` for each write, so that none is done twice |
| `control` | the supervisor's socket |
| `reserve` | space that is given up for `exit.json` when the disk is full |
| `exit.json` | how it ended: exact or `unknown`, never a guess; written after the output is on disk |
| `supervisor.log` | the traceback of a supervisor that crashed |

On the control socket each line is a JSON object. The first is `{"hello": {"versions": [1]}}`, answered by
`{"hello": {"version": 1, "run", "agent_pid"}}` with the highest common version, or by an error and the end.
Then each request has an `op` and a `seq`, and each reply `ok`, the same `seq` and, if refused, `error`:

| op | fields | effect |
|---|---|---|
| `stop` | `interrupt`, `grace_s` | the ladder: interrupt, TERM, KILL; answered when begun |
| `write` | `id`, `data` (base64) | to the agent's input, once for each id; answered when all is handed over |
| `close-input` | | end of file for the agent, after what waits to be written |
| `resize` | `rows`, `columns` | the terminal's size |
| `signal` | `name` | to the agent alone |
| `pause`, `continue` | | STOP and CONT to all processes of the run |
| `status` | | `agent_pid, alive, phase, paused, adopted, trouble` |
| `pty` | | the reply carries the terminal's master as a descriptor (SCM_RIGHTS) |
| `subscribe` | | `{"exit": …}` follows when the run has ended |
"""

"""The printed set-up in a real Emacs with Eglot: review by the set-up's commands, with nothing else configured."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from plait.rpc import Caller
from tests.support.plait import Plait, ready
from tests.support.real_editors import emacs, printed
from tests.support.repo import LINES, write

pytestmark = pytest.mark.slow

BEGIN = """
(setq make-backup-files nil create-lockfiles nil eglot-autoshutdown t)
(defun hunks ()
  (sort (mapcar (lambda (d) (1- (line-number-at-pos (flymake-diagnostic-beg d) t))) (flymake-diagnostics)) #'<))
(defun line (number)
  (save-excursion
    (goto-char (point-min))
    (forward-line number)
    (buffer-substring (line-beginning-position) (line-end-position))))
(defun disk () (with-temp-buffer (insert-file-contents (getenv "FILE")) (buffer-string)))
(defun wait (what expected)
  (let ((end (+ (float-time) 20)) (seen nil))
    (while (and (not (equal (setq seen (funcall what)) expected)) (< (float-time) end))
      (accept-process-output nil 0.05)
      (flymake-start))
    (unless (equal seen expected) (error "%S is %S, not %S" what seen expected))))
(defun same (seen expected)
  (unless (equal seen expected) (error "%S is not %S" seen expected)))
(find-file (getenv "FILE"))
(plait)
"""
END = """
(eglot-shutdown (eglot-current-server))
(princ "whole\\n")
"""


def story(tmp_path: Path, file: Path, code: str) -> None:
    """Fails unless Emacs gets to the end of the story."""
    program = emacs()
    printed("emacs", tmp_path / "emacs")
    script = tmp_path / "story.el"
    script.write_text(BEGIN + code + END)
    command = [program, "-q", "--batch", "-l", str(tmp_path / "emacs" / "plait.el"), "-l", str(script)]
    done = subprocess.run(
        command,
        env={**os.environ, "FILE": str(file)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout.endswith("whole\n"), done.stderr[-3000:]


def test_three_agents_hunks_are_accepted_rejected_taken_back_and_saved(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    for number in (3, 10, 30):
        ready(plait, caller, top, f"sed -i 's/line {number}$/LINE {number}/' a.txt")
    story(
        tmp_path,
        top / "a.txt",
        """
        (wait #'hunks '(3 10 30))
        (wait (lambda () plait-status) " plait: 3 ready")
        (goto-char (point-min))
        (buffer-enable-undo)
        (plait-next)
        (same (line-number-at-pos) 4)
        (plait-accept)
        (wait #'hunks '(10 30))
        (same (line 3) "LINE 3")
        (let ((case-fold-search nil)) (same (string-match-p "LINE" (disk)) nil))
        (plait-next)
        (same (line-number-at-pos) 11)
        (plait-reject)
        (wait #'hunks '(30))
        (same (line 10) "line 10")
        (undo-boundary)
        (undo)
        (same (line 3) "line 3")
        (plait--flush (eglot-current-server))
        (wait #'hunks '(3 30))
        (goto-char (point-min))
        (forward-line 3)
        (plait-accept)
        (wait #'hunks '(30))
        (plait-previous)
        (same (line-number-at-pos) 31)
        (save-buffer)
        """,
    )
    assert (top / "a.txt").read_text() == LINES.replace("line 3\n", "LINE 3\n")


def test_walking_leads_to_another_file_and_a_task_is_started_by_command(
    plait: Plait, caller: Caller, top: Path, tmp_path: Path
) -> None:
    write(top, {"z.txt": "one\n"})
    story(
        tmp_path,
        top / "a.txt",
        """
        (plait-run "sed -i 's/line 3$/LINE 3/' a.txt; echo new > y.txt")
        (wait #'hunks '(3))
        (plait-next)
        (plait-next)
        (same (file-name-nondirectory buffer-file-name) "y.txt")
        (plait-next)
        (same (file-name-nondirectory buffer-file-name) "a.txt")
        (plait-accept-file)
        (wait #'hunks nil)
        (same (line 3) "LINE 3")
        """,
    )

# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a module of this collection in a fork of Ansible's worker, and not in a new Python interpreter.

Run the usual way, a module costs the controller up to a second of CPU time: Ansible packs the module and all that it
imports into a zip file, a new interpreter compiles these sources, and a module that talks to EC2 imports boto3 and
reads EC2's API description. Ansible loads the action plugin of a task before it forks the worker of that task, so what
an action plugin imports at its top is imported once in a play, and the workers have it.

The module's ``main()`` runs in a process of its own, a fork of the worker. What it changes there (signal handlers, the
environment, the working directory, threads, functions registered with ``atexit``) ends with that process, and its
``sys.exit()`` or its crash ends that process alone. It reads its arguments and prints its result as any module does.

This is done only where the usual way would run the same code on this host, as this user and with this interpreter. In
all other cases the module is run the usual way: on a host that is reached over SSH, and with ``become``, with ``async``
or with another ``ansible_python_interpreter``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, Callable, Iterable, Mapping, NoReturn

from ansible import constants
from ansible.module_utils import basic
from ansible.module_utils.common import json as ansible_json
from ansible.module_utils.common import warnings
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.release import __version__ as core_version
from ansible.utils.display import Display

from ansible_collections.ec2_backup.ebs.plugins.module_utils.text import describe_status, last_words, with_words
from ansible_collections.ec2_backup.ebs.plugins.plugin_utils import aws_models

# Not used here. Ansible compiles the sources of a collection anew in each process that imports them: what our filters
# import is imported before the workers are forked.
with contextlib.suppress(Exception):
    importlib.import_module("ansible_collections.ec2_backup.ebs.plugins.filter.plan")

display = Display()

CORE = tuple(int(part) for part in core_version.split(".")[:2])
# How arguments are passed to a module and its result is read back is no public interface of ansible-core. This file
# has been tried with these versions; with any other one the modules are run the usual way.
TRIED = ((2, 18), (2, 19), (2, 20), (2, 21))
PROFILE = "legacy"  # the format of arguments and results that ansible-core 2.19 and later use for a module in Python

# They must not be handled between the fork and what comes right after it.
HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
# How long a module may take to end its own processes when its task is ended. More than ENDING_SECONDS of
# module_utils/_host/process.py.
ENDING_SECONDS = 15.0
CHUNK = 65536


def imported(name: str) -> Callable[[], None] | None:
    """Import a module of this collection, to be called at the top of its action plugin.

    :param name: the module's name, without that of the collection.
    :returns: the module's ``main``; None if it cannot be imported or run here, so that it has to be run the usual way.
    """
    if CORE not in TRIED or not hasattr(os, "fork"):
        return None
    try:
        module = importlib.import_module(f"ansible_collections.ec2_backup.ebs.plugins.modules.{name}")
        if hasattr(module, "AnsibleAWSModule"):
            aws_models.load()
    except Exception as error:  # whatever it is: the usual way reports it as it always has
        display.debug(f"ec2_backup.ebs.{name} is not run in a fork: {type(error).__name__}: {error}")
        return None
    main: Callable[[], None] = module.main
    return main


def run_forked(
    main: Callable[[], None], name: str, payload: bytes, environment: Mapping[str, str], directory: str
) -> tuple[int, bytes, bytes]:
    """Run a module's ``main`` in a fork of this process.

    When this process is interrupted meanwhile by an exception, such as that of the ``timeout`` of a task, the module
    is ended before that exception goes on: with SIGTERM, and after ENDING_SECONDS with SIGKILL.

    :param name: the module's full name, for messages.
    :param payload: the module's arguments, as ``arguments()`` returns them.
    :param environment: variables that are added to those of this process.
    :param directory: the working directory.
    :returns: its exit status (-N: killed by signal N), what it wrote to stdout, and what to stderr.
    """
    pipes: list[int] = []
    pid = 0
    held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        pipes += os.pipe()
        pipes += os.pipe()
        pid = os.fork()
        if pid == 0:
            _in_child(main, name, payload, environment, directory, pipes[1], pipes[3], held)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        os.close(pipes.pop(3))
        os.close(pipes.pop(1))
        stdout, stderr = _read(pipes)
        _pid, status = os.waitpid(pid, 0)
        pid = 0
    except BaseException:
        if pid:
            _end(pid)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for descriptor in pipes:
            os.close(descriptor)
    return os.waitstatus_to_exitcode(status), stdout, stderr


def _read(descriptors: list[int]) -> list[bytes]:
    """Read all descriptors to their end."""
    taken = {descriptor: bytearray() for descriptor in descriptors}
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select():
                data = os.read(key.fd, CHUNK)
                taken[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return [bytes(taken[descriptor]) for descriptor in descriptors]


def _end(pid: int) -> None:
    """End a child, and wait until it has ended."""
    deadline = time.monotonic() + ENDING_SECONDS
    with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended, and was waited for
        os.kill(pid, signal.SIGTERM)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.02)  # waitpid knows no timeout


def _in_child(
    main: Callable[[], None],
    name: str,
    payload: bytes,
    environment: Mapping[str, str],
    directory: str,
    stdout: int,
    stderr: int,
    mask: Iterable[int],
) -> NoReturn:
    """Turn this fork into the module's process: prepare it as a new interpreter would be, run ``main``, and exit."""
    status = 1
    try:
        _take_over(payload, environment, directory, stdout, stderr)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = _run_main(main, name)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the end of an interpreter does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        # A process that ends by SIGINT says so to its parent.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(status)


def _take_over(payload: bytes, environment: Mapping[str, str], directory: str, stdout: int, stderr: int) -> None:
    """Undo what this process has from the worker (signal handlers, descriptors), and take the module's arguments."""
    gc.freeze()  # a collection of garbage would copy all pages that are shared with the worker
    atexit._clear()  # what Ansible removes at its end is removed by Ansible
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Ansible's other descriptors are not closed, but lead to /dev/null: an object that still has the number of one may
    # close it at any time, and that number must not be that of another file then.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != null:
            with contextlib.suppress(OSError):  # that of listdir() itself
                os.fstat(descriptor)
                os.dup2(null, descriptor, inheritable=False)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.update(environment)
    if "TZ" in environment:
        time.tzset()
    tempfile.tempdir = None  # TMPDIR may be another one now
    os.chdir(directory)
    # ansible-core 2.19 and later show the warnings of a module_utils function at once, unless in a module.
    internal = sys.modules.get("ansible.module_utils._internal")
    if internal is not None and hasattr(internal, "is_controller"):
        setattr(internal, "is_controller", False)  # noqa: B010  # not a name that mypy could know
    for collected in ("_global_warnings", "_global_deprecations"):
        getattr(warnings, collected, []).clear()
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = payload, PROFILE
    aws_models.use()


def _run_main(main: Callable[[], None], name: str) -> int:
    """Run the module; return its exit status. An exception becomes a failed result."""
    try:
        main()
        error: BaseException = RuntimeError("it returned without a result")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except Exception as raised:
        error = raised
    words = str(error).strip()
    said = with_words(f"The module {name} failed with {type(error).__name__}", words)
    formatted = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    print("\n" + json.dumps({"failed": True, "msg": said, "exception": formatted}))
    return 1


def arguments(options: Mapping[str, Any]) -> bytes:
    """Return a module's arguments in Ansible's JSON, which removes Ansible's tags from the values."""
    if CORE < (2, 19):
        return json.dumps(
            {"ANSIBLE_MODULE_ARGS": options}, cls=ansible_json.AnsibleJSONEncoder, vault_to_text=True
        ).encode()
    encoder = ansible_json.get_module_encoder(PROFILE, ansible_json.Direction.CONTROLLER_TO_MODULE)
    return json.dumps({"ANSIBLE_MODULE_ARGS": options}, cls=encoder).encode()


def same_interpreter(path: str) -> bool:
    """Return whether a path is this interpreter's.

    It has to be the same program in the same directory: the directory distinguishes a virtual environment from others.
    """

    def identity(name: str) -> tuple[str, str]:
        return os.path.dirname(os.path.abspath(name)), os.path.realpath(name)

    return bool(path) and identity(path) == identity(sys.executable)


class ForkedModule(NormalAction):  # type: ignore[misc]  # Ansible carries no types
    """The action of one module: Ansible's own action for modules, except for how the module's process is made."""

    # The module's main, as ``imported`` returned it. A static method, so that it is not bound to the action.
    main: Callable[[], None] | None = None

    def _execute_module(self, *args, **kwargs):
        """Run the module, and return its result."""
        if not args and not kwargs.get("wrap_async") and kwargs.keys() <= {"task_vars", "wrap_async"}:
            call = self._prepare(kwargs.get("task_vars") or {})
            if call is not None:
                return self._run_forked(*call)
        return super()._execute_module(*args, **kwargs)

    def _prepare(self, task_vars):
        """Return what ``run_forked`` needs of this task, or None if its module is to be run the usual way."""
        try:
            if self.main is None or not self._is_here(task_vars):
                return None
            options = dict(self._task.args)
            self._update_module_args(self._task.action, options, task_vars)
            environment: dict[str, Any] = {}
            self._compute_environment_string(environment)
            return (
                self.main,
                self._task.action,
                arguments(options),
                {str(key): str(value) for key, value in environment.items()},
                self._loader.get_basedir(),  # where a command on a local connection runs
            )
        except Exception as error:  # the usual way reports it, or can do without
            display.debug(f"{self._task.action} is not run in a fork: {type(error).__name__}: {error}")
            return None

    def _is_here(self, task_vars) -> bool:
        """Return whether the usual way would run the module on this host, as this user and with this interpreter."""
        if self._connection.transport != "local" or self._connection.become or self._task.async_val:
            return False
        if self._task.delegate_to:
            task_vars = task_vars["ansible_delegated_vars"][self._task.delegate_to]
        named = constants.config.get_config_value("INTERPRETER_PYTHON", variables=task_vars)
        path = str(self._templar.template(named or "")).strip()
        # Where Ansible may choose, any interpreter of this host will do.
        return not path or path.startswith("auto") or same_interpreter(path)

    def _run_forked(self, *call) -> Any:
        name = self._task.action
        display.vvv(f"Running {name} in a fork of the worker")
        status, *written = run_forked(*call)
        told: dict[str, Any] = {"rc": status}
        for stream, data in zip(("stdout", "stderr"), written):
            text = data.decode("utf-8", "surrogateescape")
            told.update({stream: text, f"{stream}_lines": text.splitlines()})
        if not told["stdout"].strip():
            said = describe_status(f"The module {name}", status) + ", without a result"
            said = with_words(said, last_words(told["stderr"]))
            told["stdout"] = json.dumps({"failed": True, "msg": said, "rc": status, "module_stderr": told["stderr"]})
        return self._result(told)

    def _result(self, told) -> Any:
        """Return the module's result, read from what it wrote as ``ActionBase._execute_module`` does."""
        result = self._parse_returned_data(told, *([PROFILE] if CORE >= (2, 19) else []))
        if CORE >= (2, 21):
            result.remove_internal_keys()
            return result.as_result_dict(for_round_trip=True)
        from ansible.vars.clean import remove_internal_keys  # not there any more in 2.21

        remove_internal_keys(result)
        for stream in ("stdout", "stderr"):
            if stream in result and f"{stream}_lines" not in result:
                result[f"{stream}_lines"] = (result[stream] or "").splitlines()
        if CORE >= (2, 19):  # there a text is no template unless it is marked as one
            return result
        from ansible.utils.unsafe_proxy import wrap_var

        return wrap_var(result)

"""Work in partitions: in this process, on worker processes of this machine, or on a Dask cluster.

A partition's result never depends on where it ran or on what ran beside it, and results come back
in the order of the tasks, so that all three ways give the same bytes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.run.failure import Failure

if TYPE_CHECKING:
    from distributed import Client

TLS = ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")  # of Dask's variables, what a client needs
ANSWER = 10  # seconds that a scheduler has to answer in
AHEAD = 3  # partitions in flight for each worker: bounds what waits in memory for its turn


def check_workers(workers: int | None) -> int:
    """Return WORKERS, 0 where it was not given; raise Failure where it is more than the cores."""
    cores = len(os.sched_getaffinity(0))
    if workers and workers > cores:
        raise Failure(f"WORKERS={workers}: there are {cores} cores, and each worker takes one")
    return workers or 0


@contextmanager
def partitions(scheduler: str, workers: int) -> Iterator[Callable]:
    """Yield run(function, tasks, shared=()), an iterator over function(*shared, *task) in order.

    shared: arguments of all tasks, sent to each worker once.
    scheduler: a Dask scheduler's address, or "". workers: processes to start on this machine, 0 for
    none. With neither, run is the plain loop. A worker that dies costs its partitions' second try.
    Raise Failure where both are given, the scheduler cannot be reached or has no worker, or a
    partition kills every worker that tries it.
    """
    if scheduler and workers:
        raise Failure(
            "SCHEDULER= has workers of its own, and WORKERS= starts some on this machine: give one "
            "of the two"
        )
    if not scheduler and not workers:
        yield lambda function, tasks, shared=(): (function(*shared, *task) for task in tasks)
        return
    from distributed import Client, LocalCluster

    if scheduler.startswith("tls://"):
        check_tls()
    try:
        if scheduler:
            client = Client(scheduler, timeout=ANSWER)
        else:
            client = Client(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                )
            )
    except ValueError as error:
        raise Failure(
            f"SCHEDULER={scheduler} is no address of a Dask scheduler, as tcp://host:8786 ({error})"
        ) from None
    except OSError as error:
        raise Failure(
            f"the Dask scheduler {scheduler} does not answer ({error}): is it running?"
        ) from None
    with client:
        present = client.scheduler_info(n_workers=-1)["workers"]
        if not present:
            raise Failure(f"the Dask scheduler {scheduler} has no workers: start some")
        print(f"{len(present)} Dask worker(s); dashboard: {client.dashboard_link}", flush=True)
        if workers:
            share_cores(client, present)
        yield lambda *work, **shared: ordered(client, len(present), *work, **shared)
        if workers:
            client.shutdown()


def check_tls() -> None:
    """Raise Failure where Dask has not been told what it connects by TLS with."""
    from distributed import Security

    variables = [f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in TLS]
    try:
        if Security().get_connection_args("client").get("ssl_context"):
            return
    except OSError as error:
        raise Failure(f"one of the files {', '.join(variables)} is of no use: {error}") from None
    raise Failure(
        f"SCHEDULER=tls://... is reached with the files that {', '.join(variables)} name; see "
        "tools/run/README.md"
    )


def share_cores(client: "Client", addresses: Iterable[str]) -> None:
    """Give each worker process of this machine its own cores, as far as there are enough."""
    cores = sorted(os.sched_getaffinity(0))
    for place, address in enumerate(addresses):
        own = cores[place % len(cores) :: len(addresses)]
        client.run(os.sched_setaffinity, 0, own, workers=[address])


def ordered(
    client: "Client",
    workers: int,
    function: Callable,
    tasks: Iterable[tuple],
    shared: tuple = (),
) -> Iterator:
    """Yield function(*shared, *task) of each task in order, a bounded number of them in flight."""
    from distributed import KilledWorker

    futures, tasks = deque(), iter(tasks)
    shared = [client.scatter(value, broadcast=True) for value in shared]

    def submit(count: int) -> None:
        for _, task in zip(range(count), tasks, strict=False):
            futures.append(client.submit(function, *shared, *task, pure=False))

    submit(AHEAD * workers)
    while futures:
        try:
            result = futures.popleft().result()
        except KilledWorker as error:
            raise Failure(
                f"a partition killed every worker that tried it ({error}); see the workers' logs"
            ) from None
        submit(1)
        yield result

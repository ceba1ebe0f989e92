"""What Ray and Ray Tune read from the environment when they are imported: set before that, by who imports them."""

from __future__ import annotations

import os

from sweep.running.connection.address import cluster_address, is_loopback_alone

ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records take the place of Tune's four files per trial
    "TUNE_STATE_REFRESH_PERIOD": "1000000",  # the cluster's size, which nobody reads; nothing interrupts that call
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # a killed driver resumes from our records, not from Tune's snapshots
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # who waits for a worker's start: one at a time is Tune's default
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a traceback for each worker's death
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C unwinds at once: Tune would end as if nothing had happened
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # no lines of the servers' logs on the terminal
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer console output prints a table even when verbose is 0
}
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # a cluster of this machine alone listens on 127.0.0.1
RETRIES = "RAY_NUM_REDIS_GET_RETRIES"  # to reach a cluster; 20 of up to 30 s are Ray's default


def for_ray() -> dict[str, str]:
    """Return it for this process and what it starts; the nodes of a cluster that is joined have their own.

    Raises:
        SettingsError: RAY_ADDRESS names no cluster.
    """
    address = cluster_address()
    if address is None:
        return ALWAYS | ON_LOOPBACK
    retries = {RETRIES: os.environ.get(RETRIES, "3")}
    return ALWAYS | retries | (ON_LOOPBACK if is_loopback_alone(address) else {})

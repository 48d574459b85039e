"""The routes to a Slurm cluster, from its settings: its commands, and slurmrestd."""

import os
from typing import Final

from adapters.cluster.slurm_access import SlurmAccess
from adapters.cluster.slurm_client import SlurmClient
from adapters.cluster.slurm_commands import HereRunner
from adapters.cluster.slurm_rest_client import SlurmRestClient
from adapters.cluster.slurm_rest_link import RestLink
from adapters.cluster.slurm_rest_session import RestSession
from adapters.cluster.slurm_token import TokenFile, TokenSource, TokenVariable, parse_token
from scheduler.core.errors import InvalidConfigError
from scheduler.server.cluster_settings import SlurmRestSettings, SlurmSettings

_TRY_S: Final = 20.0
"""So long a look at the route that is not used may take."""


def build_access(cluster_id: str, slurm: SlurmSettings) -> SlurmAccess | None:
    """The access by slurmrestd where that is the route; None for the cluster's own commands."""
    return build_rest(cluster_id, slurm) if slurm.route == "rest" else None


def build_other(cluster_id: str, slurm: SlurmSettings) -> tuple[str, SlurmAccess] | None:
    """The route that is not used but could be, with its name; None where nothing is known of it."""
    if slurm.route == "rest":
        runner = HereRunner(conf=slurm.conf, timeout_s=_TRY_S)
        return "cli", SlurmClient(cluster_id, runner, cluster_flag=slurm.cluster)
    return None if slurm.rest is None else ("rest", build_rest(cluster_id, slurm))


def build_rest(cluster_id: str, slurm: SlurmSettings) -> SlurmRestClient:
    """The access by slurmrestd.

    Raises:
        InvalidConfigError: a URL without TLS, or a variable without a token.
    """
    rest = slurm.rest
    assert rest is not None
    place = f"clusters.{cluster_id}.slurm.rest"
    try:
        link = RestLink(
            cluster_id,
            rest.url,
            user=rest.user,
            token=_token(cluster_id, rest),
            is_plain_http_allowed=rest.plain_http,
        )
    except InvalidConfigError as error:
        fields = {**error.fields, "field": f"{place}.{error.fields.get('field')}"}
        raise InvalidConfigError(f"{place}.{error.message}", **fields) from error
    return SlurmRestClient(RestSession(link, version=rest.version), cluster=slurm.cluster)


def _token(cluster_id: str, rest: SlurmRestSettings) -> TokenSource:
    if rest.token_file is not None:
        return TokenFile(cluster_id, rest.token_file)
    assert rest.token_env is not None
    if parse_token(os.environ.get(rest.token_env, "")) is None:
        raise InvalidConfigError(
            f"token_env: the variable {rest.token_env} holds no token; set it to what `scontrol token "
            f"username={rest.user} lifespan=SECONDS` prints, or use token_file, which may be renewed",
            field="token_env",
            value=rest.token_env,
            valid="a variable with a token",
        )
    return TokenVariable(cluster_id, rest.token_env, os.environ)

"""Every setting of Vitalgate: name, type, default and meaning, in one model.

Sources, in rising order: default, the running local stack (``stack.toml`` in the data
directory), a TOML file, the environment (``VITALGATE_SECTION_NAME``), a flag. ``loading.py`` merges them and
remembers where each value came from; an unknown name anywhere is an error.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

CLEARTEXT: Final = "i-accept-cleartext-on-this-network"
"""What a section's `tls` must say before anything goes in the clear to another machine."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StackSettings(_Section):
    """The deployment as a whole."""

    name: str = Field("vitalgate", description="Name of this deployment; part of logs and metrics.")
    data: str = Field(".vitalgate", description="Directory of the one-machine stack: state, logs, secrets.")
    profile: Literal["local", "production"] = Field(
        "local", description="local: small JVM heap, one Kafka node. production: nothing is started for you."
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: its names are `localhost` and none (a socket's path too), else by address."""
    host = host.strip("[]")
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class TlsSection(_Section):
    """How the connections of a section are protected."""

    tls: Literal["auto", "on", "off", "i-accept-cleartext-on-this-network"] = Field(
        "auto",
        description="auto: TLS, but on loopback; on: TLS; off: none, on loopback only. Anywhere else that must be said "
        f"in words: {CLEARTEXT}.",
    )
    ca_file: str = Field(
        "", description="Authorities (PEM) of which one must have signed the server's certificate; empty: the system's."
    )
    cert_file: str = Field("", description="Our own certificate (PEM), where the server asks for one.")
    key_file: str = Field("", description="Its private key (PEM); empty when it is in cert_file.")
    verify: Literal["full", "ca"] = Field(
        "full", description="full: the server's certificate must be for the name it is called by; ca: any of the CA's."
    )

    def hosts(self) -> list[str]:
        """The hosts that the section names."""
        return []

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        return self.tls == "on" or (self.tls == "auto" and not all(is_loopback(host) for host in self.hosts()))

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Self:
        far = [host for host in self.hosts() if not is_loopback(host)]
        if self.tls == "off" and far:
            raise ValueError(
                f"{', '.join(far)} is not this machine and tls is off: passwords and readings would cross the network "
                "in the clear. Set tls to on, and ca_file to the server's authority; or, on a network that you trust, "
                f"set tls to {CLEARTEXT}"
            )
        return self


class MqttSettings(TlsSection):
    """The MQTT broker and how the gateway speaks to it."""

    host: str = Field("127.0.0.1", description="Broker address.")
    port: int = Field(1883, description="Broker port.", ge=1, le=65535)
    broker: Literal["mosquitto", "rabbitmq"] = Field(
        "mosquitto", description="Which broker it is; docs/brokers.md says what each promises."
    )
    api_url: str = Field(
        "", description="RabbitMQ's HTTP API (management plugin), such as http://127.0.0.1:15672; Mosquitto needs none."
    )
    vhost: str = Field(
        "vitalgate", description="RabbitMQ's virtual host (its mqtt.vhost).", pattern=r"^[A-Za-z0-9_-]{1,40}$"
    )
    certificate_port: int = Field(
        0, description="Port of the listener that tells devices by their certificates; 0: none.", ge=0, le=65535
    )
    external: bool = Field(False, description="True: the broker is yours; `up` starts none.")
    username: str = Field("vg-gateway", description="User name of the gateway and the notifier.")
    password_file: str = Field("", description="File holding that user's password (never on a command line).")
    admin_username: str = Field("vg-admin", description="User that manages device credentials on the broker.")
    admin_password_file: str = Field("", description="File holding the administrator's password.")
    log_refused: bool = Field(
        True, description="The local broker logs each publish it refuses; costs it about 15 microseconds a message."
    )
    share_group: str = Field("vitalgate", description="Shared-subscription group of the gateways.")
    receive_maximum: int = Field(
        4000, description="Unacknowledged messages the broker may have under way to one gateway.", ge=1, le=65535
    )
    max_payload_bytes: int = Field(
        1_048_576,
        description="Largest device message accepted; larger ones are dead-lettered as oversize.",
        ge=1024,
        le=3_500_000,
    )
    max_queued_bytes: int = Field(
        1_073_741_824,
        description="The broker's bound (max_queued_bytes) on what it holds for one client; a gauge shows the share.",
        ge=1,
    )
    log_file: str = Field(
        "", description="The broker's log file, when it is on this machine; what it refused is counted from there."
    )

    def hosts(self) -> list[str]:
        """The broker."""
        return [self.host]

    @model_validator(mode="after")
    def _api_not_in_the_clear(self) -> Self:
        url = urlsplit(self.api_url)
        if url.scheme == "http" and not is_loopback(url.hostname or "") and self.tls != CLEARTEXT:
            raise ValueError(
                f"api_url is {self.api_url}: the administrator's password would cross the network in the clear. Use "
                f"https; or, on a network that you trust, set tls to {CLEARTEXT}"
            )
        return self


class KafkaSettings(TlsSection):
    """Apache Kafka and the topics' shape."""

    bootstrap: str = Field("127.0.0.1:9092", description="Bootstrap servers, comma separated.")
    external: bool = Field(False, description="True: Kafka is yours; `up` starts none.")
    prefix: str = Field("", description="Put before every topic name, so that several deployments share a cluster.")
    partitions: int = Field(4, description="Partitions of the device and patient topics, fixed at creation.", ge=1)
    replication: int = Field(1, description="Replication factor (3 in production).", ge=1)
    min_insync: int = Field(1, description="min.insync.replicas (2 with replication 3).", ge=1)
    nodes: int = Field(1, description="Kafka nodes that the local stack starts (1 or 3).", ge=1, le=3)
    retention_hours: int = Field(168, description="Retention of topics that are not compacted.", ge=1)
    linger_ms: int = Field(1, description="Producer linger; librdkafka's 5 ms ruins latency.", ge=0, le=1000)
    max_pending: int = Field(20_000, description="Records a producer may have unacknowledged before it waits.", ge=1)
    username: str = Field("", description="User name for SASL; empty: none (a certificate says who we are).")
    password_file: str = Field("", description="File holding that user's password, or env:NAME.")
    mechanism: Literal["plain", "scram-sha-256", "scram-sha-512"] = Field(
        "scram-sha-512", description="SASL mechanism for `username`."
    )

    def hosts(self) -> list[str]:
        """The bootstrap servers."""
        return [entry.strip().rpartition(":")[0] for entry in self.bootstrap.split(",") if entry.strip()]


class DatabaseSettings(TlsSection):
    """PostgreSQL, with TimescaleDB where the extension is present."""

    dsn: str = Field("", description="libpq connection string of the owner role (migrations).")
    external: bool = Field(False, description="True: the database is yours; `up` starts none.")
    db_schema: str = Field(
        "vitalgate",
        description="Schema of the public views; tables sit in `<schema>_data`.",
        pattern=r"^[a-z][a-z0-9_]{0,40}$",
    )
    timescale: Literal["auto", "on", "off"] = Field(
        "auto", description="auto: hypertables when the extension can be created, else native partitions."
    )
    chunk_days: int = Field(7, description="Days in one hypertable chunk or native partition.", ge=1, le=366)
    compress_after_days: int = Field(
        45, description="Compress chunks older than this; keep it above intake.max_backfill_days.", ge=1
    )
    retention_days: int = Field(0, description="Drop clinical data older than this; 0 keeps it for ever.", ge=0)
    message_days: int = Field(
        0, description="The words of messages older than this go, unless under legal hold; 0 keeps them for ever.", ge=0
    )
    changes_days: int = Field(
        7, description="Live queries can be resumed for so long; older cursors start anew.", ge=1, le=365
    )
    aggregates: bool = Field(True, description="Keep minute, hour and local-day aggregates.")
    batch_timeout_s: float = Field(30.0, description="Statement timeout of one recorder batch.", gt=0)
    user: str = Field("", description="Role to connect as, in place of the one in database.dsn.")
    password_file: str = Field("", description="File holding the password of database.user, or env:NAME.")
    role_passwords: str = Field(
        "",
        description="Directory of files named after roles (recorder, archiver, …) that hold their passwords, which "
        "`vitalgate migrate` gives them; empty: roles are left as they are.",
    )
    housekeeper_user: str = Field(
        "", description="Role of the archiver's housekeeping, which owns the tables; empty: as for everything else."
    )
    housekeeper_password_file: str = Field("", description="File holding that role's password, or env:NAME.")


class GatewaySettings(_Section):
    """MQTT in, Kafka out."""

    slot: str = Field("0", description="This gateway's slot; fixes its MQTT client id. Unique per gateway.")
    max_pending_bytes: int = Field(
        64 * 1024 * 1024, description="Bytes taken from the broker and not yet acknowledged by Kafka.", ge=1_048_576
    )
    receipt_interval_ms: int = Field(200, description="Receipts of one device are coalesced over this time.", ge=0)


class IntakeSettings(_Section):
    """Decoding, authorising, validating."""

    max_backfill_days: int = Field(
        30, description="Oldest measurement accepted, before it is `time_unexplained`.", ge=1
    )
    max_ahead_s: float = Field(120.0, description="How far ahead of arrival a (skew-corrected) time may lie.", ge=0)
    skew_tolerance_s: float = Field(
        30.0, description="Clock skew below this is left alone; above it times are corrected by it.", ge=1
    )
    max_readings: int = Field(1000, description="Readings in one message.", ge=1)
    max_samples: int = Field(200_000, description="Waveform samples in one message.", ge=1)
    max_messages_per_s: float = Field(
        200.0, description="Messages per second a device may send before it is reported as too fast.", gt=0
    )


class WorkerSettings(_Section):
    """The Faust workers."""

    slot: str = Field("0", description="Slot of this worker among those of its name; a static group member id.")
    batch_max: int = Field(2000, description="Records taken into one batch.", ge=1)
    queue_max: int = Field(4000, description="Records read ahead of the batch in hand (bounded queue).", ge=1)
    session_timeout_s: float = Field(6.0, description="Kafka group session timeout.", ge=1)
    commit_interval_s: float = Field(0.5, description="How often acknowledged offsets are committed.", gt=0)


class AnalysisSettings(_Section):
    """ECG and pulse analysis."""

    idle_s: float = Field(
        10.0, description="A recording that is silent this long is finished with the samples there are.", gt=0
    )
    lookback_s: float = Field(240.0, description="Stretch of input read back after a restart to rebuild state.", gt=0)


class AlertingSettings(_Section):
    """Rules and alert topics."""

    rules: str = Field("", description="Directory of further rule files; the shipped ones always load.")
    default_team: str = Field(
        "care", description="Team of patients who have none assigned.", pattern=r"^[a-z0-9-]{1,40}$"
    )
    tick_s: float = Field(1.0, description="Interval of the ticks that carry time to the alert engine.", gt=0)
    heartbeat_s: float = Field(
        5.0, description="Interval of `v1/alerts/{team}/heartbeat`, by which a screen tells quiet from dead.", gt=0
    )


class HandoverSettings(_Section):
    """Alerts handed over by webhook, e-mail and Apprise."""

    destinations: str = Field(
        "", description="File (TOML) of the destinations, docs/handover.md; read anew when it changes. '' for none."
    )
    moment_s: float = Field(1.0, description="What comes so soon after an alarm is in the same notification.", ge=0)
    window_s: float = Field(
        60.0, description="One patient's further alarms are gathered into a notification every so often.", gt=0
    )
    deadline_s: float = Field(
        120.0, description="A high-priority notification not delivered by then is an alert of its own.", gt=0
    )
    give_up_s: float = Field(3600.0, description="How long a delivery is tried again.", gt=0)
    attempt_s: float = Field(10.0, description="How long a receiver may take to answer one attempt.", gt=0, le=120)
    stale_s: float = Field(
        21600.0, description="An alarm of this age is not told any more, unless it still stands unanswered.", gt=0
    )


class AuditSettings(_Section):
    """The audit trail."""

    checkpoint_every: int = Field(100, description="Events between two signed checkpoints.", ge=1)
    signing_key_file: str = Field("", description="Ed25519 private key (PEM) that signs checkpoints.")
    checkpoint_s: float = Field(
        60.0, description="Longest time that a written event stays without a signed checkpoint over it.", gt=0
    )
    anchor_file: str = Field(
        "",
        description="File in which the auditor keeps its checkpoints outside of Kafka and database (JSON lines): a cut "
        "tail shows against it. Best on another machine's disk.",
    )


class WatchSettings(_Section):
    """What the registrar looks after for the operators' metrics."""

    ledger_s: float = Field(300.0, description="Time between two reckonings of the whole ledger; 0: never.", ge=0)
    audit_s: float = Field(60.0, description="Time between two verifications of new audit links; 0: never.", ge=0)
    disks: str = Field(
        "", description="Paths, comma separated, whose disks' free space is told; empty: the data directory's."
    )


class HealthSettings(_Section):
    """Metrics and health endpoints."""

    host: str = Field("127.0.0.1", description="Address of /metrics, /healthz and /readyz.")
    port: int = Field(
        0, description="Port of this process's endpoints; 0 picks a free one and logs it.", ge=0, le=65535
    )


class LogSettings(_Section):
    """Logs never carry clinical values."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is written.")
    format: Literal["json", "text"] = Field("json", description="json for machines, text for eyes.")


class ClockSettings(_Section):
    """Whose clock the ticks carry."""

    source: Literal["wall", "kafka"] = Field(
        "wall", description="wall: the machine's clock. kafka: a test or an accelerated run publishes the ticks."
    )


class ApiSettings(_Section):
    """HTTP for applications: REST, GraphQL, live queries, files."""

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8080, description="Port of the API; 0 picks a free one and logs it.", ge=0, le=65535)
    public_url: str = Field(
        "", description="Where applications reach the API, for links in answers and messages; empty: host and port."
    )
    cors_origins: str = Field("", description="Origins of web pages that may call the API, comma separated.")
    connections: int = Field(8, description="Database connections of one API process.", ge=2, le=200)
    statement_timeout_s: float = Field(15.0, description="Longest time of one database statement.", gt=0)
    flush_reads: bool = Field(
        True,
        description="Answer a read only when its audit event is on the database's disk. False is some milliseconds "
        "faster; a crash of the database server may then take the events of the reads of its last half second.",
    )
    requests_per_s: float = Field(50.0, description="Requests a second for each user, over time.", gt=0)
    requests_burst: int = Field(200, description="Requests that a user may make at once.", ge=1)
    anonymous_per_s: float = Field(
        5.0, description="Requests a second for each address that has not logged in; log-in is among them.", gt=0
    )
    anonymous_burst: int = Field(30, description="Such requests at once.", ge=1)
    body_max_kb: int = Field(1024, description="Longest request body that is no file, in KiB.", ge=1)
    files: str = Field(
        "", description="Where files lie: a directory, or s3://BUCKET/PREFIX. Empty: `files` in the data directory."
    )
    files_endpoint: str = Field("", description="Address of an S3-compatible server; empty is Amazon's.")
    files_region: str = Field("us-east-1", description="Region of the S3 bucket.")
    files_credentials_file: str = Field(
        "", description="File with access key id and secret key; empty: what the environment gives."
    )
    upload_max_mb: int = Field(50, description="Longest uploaded file, in MiB.", ge=1, le=2048)
    link_s: int = Field(300, description="How long a signed link to a file works.", ge=10, le=86_400)
    graphql_depth: int = Field(8, description="Deepest nesting of a GraphQL query.", ge=2, le=20)
    graphql_cost: int = Field(2000, description="Most records that a GraphQL query may ask for.", ge=10)
    live_heartbeat_s: float = Field(15.0, description="A quiet live query gets a comment this often.", gt=0)
    live_queue: int = Field(
        1000, description="Events held for one slow live query before it is cut, to come back by its cursor.", ge=10
    )
    oidc_issuer: str = Field("", description="OpenID Connect issuer for single sign-on; empty: none.")
    oidc_client_id: str = Field("", description="The client id that the issuer knows us by.")
    oidc_client_secret_file: str = Field("", description="File with the client secret; empty for a public client.")
    webhook_hosts: str = Field(
        "", description="Hosts that users may have notifications posted to, comma separated; '' for none."
    )
    mail_server: str = Field("", description="HOST:PORT that takes letters of accounts and notifications; '' for none.")
    mail_from: str = Field("vitalgate@localhost", description="Sender of those letters.")
    mail_tls: bool = Field(True, description="STARTTLS with the mail server's certificate checked.")
    mail_user: str = Field("", description="User name at the mail server; '' for none.")
    mail_password_file: str = Field("", description="File with that user's password.")


class LocalSettings(_Section):
    """What `vitalgate up` starts on this machine."""

    tls: bool = Field(
        False, description="Encrypt every connection of the local stack, with an authority of its own (`up --tls`)."
    )
    kafka_heap_mb: int = Field(384, description="Java heap of one local Kafka node, in MiB.", ge=128)
    kafka_advertised: str = Field(
        "",
        description="Addresses (HOST:PORT, one a node, comma separated) that the local Kafka tells its clients instead "
        "of its own: those of a proxy or a port forward before it.",
    )
    postgres_bin: str = Field(
        "", description="Folder of PostgreSQL's `postgres` and `initdb`; empty looks for the best one there is."
    )
    copies: str = Field(
        "",
        description="More than one of a process, such as `intake=2,gateway=2`: intake-1 runs beside intake, in slot 1.",
        pattern=r"^([a-z]+=[1-9][0-9]?(,[a-z]+=[1-9][0-9]?)*)?$",
    )
    ready_timeout_s: float = Field(60.0, description="How long `up` waits for a process to become ready.", gt=0)
    log_max_mb: int = Field(20, description="A log file above this is moved to NAME.log.1; three are kept.", ge=1)


class SecuritySettings(_Section):
    """Keys and certificates."""

    ca_dir: str = Field("", description="Directory of `vitalgate ca`; empty: `ca` in the data directory.")
    keys_file: str = Field(
        "", description="Key ring that seals fields naming a person (`vitalgate keys`), or env:NAME."
    )


class Settings(_Section):
    """All settings; each section is one prefix of names (`mqtt.port`, VITALGATE_MQTT_PORT, --set mqtt.port=…)."""

    stack: Annotated[StackSettings, Field(default_factory=StackSettings)]
    mqtt: Annotated[MqttSettings, Field(default_factory=MqttSettings)]
    kafka: Annotated[KafkaSettings, Field(default_factory=KafkaSettings)]
    database: Annotated[DatabaseSettings, Field(default_factory=DatabaseSettings)]
    gateway: Annotated[GatewaySettings, Field(default_factory=GatewaySettings)]
    intake: Annotated[IntakeSettings, Field(default_factory=IntakeSettings)]
    worker: Annotated[WorkerSettings, Field(default_factory=WorkerSettings)]
    analysis: Annotated[AnalysisSettings, Field(default_factory=AnalysisSettings)]
    alerting: Annotated[AlertingSettings, Field(default_factory=AlertingSettings)]
    handover: Annotated[HandoverSettings, Field(default_factory=HandoverSettings)]
    audit: Annotated[AuditSettings, Field(default_factory=AuditSettings)]
    watch: Annotated[WatchSettings, Field(default_factory=WatchSettings)]
    health: Annotated[HealthSettings, Field(default_factory=HealthSettings)]
    log: Annotated[LogSettings, Field(default_factory=LogSettings)]
    clock: Annotated[ClockSettings, Field(default_factory=ClockSettings)]
    api: Annotated[ApiSettings, Field(default_factory=ApiSettings)]
    local: Annotated[LocalSettings, Field(default_factory=LocalSettings)]
    security: Annotated[SecuritySettings, Field(default_factory=SecuritySettings)]

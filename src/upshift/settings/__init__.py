"""Every setting: one frozen section per room, each field also an argument and an `UPSHIFT_*` variable.

The argument's name is the field's, the variable's the same in capitals: `SqlSettings.batching` is
`Upshift(app, batching=True)` and `UPSHIFT_BATCHING`. An argument in code wins over the variable, the variable
over the default.
"""

from upshift.settings.checks import variable_of
from upshift.settings.sections import (
    Arguments,
    CacheSettings,
    DiagnoseSettings,
    HealthSettings,
    LogSettings,
    PoolSettings,
    RecordSettings,
    ReplicaSettings,
    ServerTiming,
    SqlSettings,
    TelemetrySettings,
    TracingSettings,
    TrafficSettings,
)
from upshift.settings.settings import Explained, Settings, explain_settings, misspelt_variables

__all__ = [
    "Arguments",
    "CacheSettings",
    "DiagnoseSettings",
    "Explained",
    "HealthSettings",
    "LogSettings",
    "PoolSettings",
    "RecordSettings",
    "ReplicaSettings",
    "ServerTiming",
    "Settings",
    "SqlSettings",
    "TelemetrySettings",
    "TracingSettings",
    "TrafficSettings",
    "explain_settings",
    "misspelt_variables",
    "variable_of",
]

"""Which exporter OpenTelemetry's variables ask for."""

import os
import sys

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from upshift.errors import MissingExtraError, SettingsError
from upshift.settings import TracingSettings
from upshift.telemetry.tracing import exporters
from upshift.telemetry.tracing.export import SpanExport
from upshift.telemetry.tracing.exporters import find_exporter, is_disabled, resource_of


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch.setenv


def tracing():
    return SpanExport(TracingSettings(), service="shop", slow_request_seconds=1.0, digest_text=str)


class TestExporter:
    def test_it_is_otlp_over_http_unless_something_else_is_asked_for(self):
        exporter = find_exporter()
        assert isinstance(exporter, OTLPSpanExporter)
        assert exporter._endpoint == "http://localhost:4318/v1/traces"

    def test_the_console_can_be_asked_for(self, variables):
        variables("OTEL_TRACES_EXPORTER", "console")
        assert isinstance(find_exporter(), ConsoleSpanExporter)

    def test_an_unknown_one_is_refused_by_the_variables_name(self, variables):
        variables("OTEL_TRACES_EXPORTER", "carrier-pigeon")
        with pytest.raises(SettingsError, match=r"OTEL_TRACES_EXPORTER is 'carrier-pigeon'.*otlp_proto_http"):
            find_exporter()

    def test_a_protocol_that_is_not_installed_is_refused_and_not_replaced(self, variables, monkeypatch):
        entry_points = exporters.entry_points
        monkeypatch.setattr(
            exporters,
            "entry_points",
            lambda **which: [each for each in entry_points(**which) if each.name != "otlp_proto_grpc"],
        )
        variables("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"):
            find_exporter()
        variables("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        assert isinstance(find_exporter(), OTLPSpanExporter)

    def test_without_the_exporters_package_the_extra_is_named(self, monkeypatch):
        monkeypatch.setattr(exporters, "entry_points", lambda **which: [])
        with pytest.raises(MissingExtraError, match=r"upshift\[otel\]"):
            find_exporter()

    def test_without_the_sdk_the_extra_is_named(self, monkeypatch):
        for name in [name for name in sys.modules if name.startswith("upshift.telemetry.")]:
            if name.rpartition(".")[2] in {"delivery", "exporters", "spans"}:
                monkeypatch.delitem(sys.modules, name)
        for name in [name for name in sys.modules if name.startswith("opentelemetry.sdk")]:
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match=r"tracing needs .*upshift\[otel\]"):
            tracing()


class TestTurnedOff:
    @pytest.mark.parametrize(
        ("name", "value"), [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")]
    )
    def test_opentelemetrys_switches_work(self, variables, name, value):
        assert not is_disabled()
        variables(name, value)
        assert is_disabled()
        assert tracing().is_traced(record_of_an_outlier()) is False


class TestResource:
    def test_the_service_is_ours_unless_opentelemetrys_variables_name_one(self, variables):
        assert resource_of("shop").attributes["service.name"] == "shop"
        variables("OTEL_RESOURCE_ATTRIBUTES", "service.name=from-attributes,k=v")
        assert resource_of("shop").attributes["service.name"] == "from-attributes"
        assert resource_of("shop").attributes["k"] == "v"
        variables("OTEL_SERVICE_NAME", "from-name")
        assert resource_of("shop").attributes["service.name"] == "from-name"

    def test_it_is_equal_and_hashed_as_any_other(self):
        one, other = resource_of("shop"), resource_of("shop")
        assert one == other
        assert hash(one) == hash(other)
        assert one != resource_of("bank")


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
@pytest.mark.parametrize(
    "name", ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"]
)
def test_a_number_that_cannot_be_is_refused_by_the_variables_name(variables, name, value):
    variables(name, value)
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        tracing()


def record_of_an_outlier():
    from upshift.record import Record

    record = Record("GET", "/", 0.0)
    record.error = "ValueError"
    return record

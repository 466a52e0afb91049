"""The published study as data: traces, calibration, tables of the ICLR 2022 paper and its released code."""

from powsim.study.published import (
    ATTACKS,
    DATASETS,
    Calibration,
    PriceRule,
    Table2Row,
    Trace,
    accuracy_pct,
    calibration,
    price_rule,
    service_times,
    table2,
    trace,
    trace_names,
)

__all__ = [
    "ATTACKS",
    "DATASETS",
    "Calibration",
    "PriceRule",
    "Table2Row",
    "Trace",
    "accuracy_pct",
    "calibration",
    "price_rule",
    "service_times",
    "table2",
    "trace",
    "trace_names",
]

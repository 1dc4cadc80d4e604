"""Names of metrics, evaluations and inputs in result tables, and their titles in tables and figures."""

METRICS = {
    "ap": "average precision",
    "ap_macro": "macro average precision",
    "ap_micro": "micro average precision",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "lrap": "label ranking average precision",
    "coverage_error": "coverage error, labels",
    "hamming": "Hamming loss",
    "jaccard": "sample Jaccard",
    "calibration_error": "calibration error",
}
EVALUATIONS = {
    "knn": "k nearest neighbours",
    "linear": "linear probe",
    "finetune": "fine-tuning",
    "end_to_end": "end to end",
}


def input_title(name: str) -> str:
    """Return the title of an input, such as ``"s1"``, ``"fused"`` or ``"fused_without_s1"``."""
    if name == "fused":
        return "all sensors"
    missing = name.removeprefix("fused_without_")
    return missing.upper() if missing == name else f"without {missing.upper()}"


def input_order(name: str) -> tuple[bool, str]:
    """Return the sort key of an input: single sensors, then all, then all but one."""
    return name.startswith("fused"), name

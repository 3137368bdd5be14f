"""Scans in and out: files, folders, data sets, PLY results."""

from __future__ import annotations

from r3dad.scans.layouts import DatasetClass, LabelledScan, class_folders, detect_layout, list_classes, read_truth
from r3dad.scans.readers import SUFFIXES, as_scan, find_scans, read_scan
from r3dad.scans.scan import Scan, check_spread
from r3dad.scans.writers import write_atomic, write_ply

__all__ = [
    "SUFFIXES",
    "DatasetClass",
    "LabelledScan",
    "Scan",
    "as_scan",
    "check_spread",
    "class_folders",
    "detect_layout",
    "find_scans",
    "list_classes",
    "read_scan",
    "read_truth",
    "write_atomic",
    "write_ply",
]

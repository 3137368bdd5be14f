"""Synthetic defects on good scans."""

"""Kinds of defects, each a function (part, depth in mm, random stream) -> Defect."""

"""Parts that the package makes itself: shapes, defects, sensors, labelled scans."""

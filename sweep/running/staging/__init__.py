"""Data and weights, brought to where a study is trained: offered by the driver, fetched once a node, checked."""

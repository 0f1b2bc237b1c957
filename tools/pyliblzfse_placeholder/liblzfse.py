"""Stands in for pyliblzfse, which decompresses Record3D captures and has no built distribution."""

raise ImportError(
    "pyliblzfse was not built, because no C compiler or no Python headers were there; on Debian and Ubuntu: "
    "apt-get install gcc python3-dev, then: pip install --force-reinstall --no-deps pyliblzfse"
)

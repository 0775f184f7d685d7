def pytest_addoption(parser):
    parser.addoption("--elements", type=int, default=1 << 20, help="elements of the largest array of a workload")

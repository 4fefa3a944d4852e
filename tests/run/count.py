"""Prints `@tests PASSED FAILED` from a JUnit file of pytest; skipped tests count as neither."""
import sys
import xml.etree.ElementTree as tree


def main(path):
    suites = tree.parse(path).getroot().iter("testsuite")
    total = failed = skipped = 0
    for suite in suites:
        total += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    print(f"@tests {total - failed - skipped} {failed}")


if __name__ == "__main__":
    main(sys.argv[1])

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the C code that a document quotes is in one of the files.

quoted.py DOCUMENT FILE...

A quotation is a definition in an indented block, up to a semicolon outside of braces. White space does not count.
"""

import re
import sys


def packed(text):
    return re.sub(r"\s", "", text)


def quotations(document):
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", document, re.MULTILINE):
        lines = [line[4:] for line in block.splitlines()]
        quotation = []
        for line in lines:
            quotation.append(line)
            if line.endswith(";") and is_balanced(quotation):
                yield "\n".join(quotation).strip()
                quotation = []


def is_balanced(lines):
    text = "".join(lines)
    return text.count("{") == text.count("}")


def main():
    document, *files = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        found = list(quotations(file.read()))
    code = ""
    for name in files:
        with open(name, encoding="utf-8") as file:
            code += packed(file.read())
    missing = [text for text in found if packed(text) not in code]
    for text in missing:
        print(f"not in {' '.join(files)}:\n{text}")
    print(f"{len(found)} quotations")
    return 1 if missing or not found else 0


if __name__ == "__main__":
    sys.exit(main())

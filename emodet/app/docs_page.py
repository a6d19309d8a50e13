"""Documentation of the REST interface at /docs: HTML without scripts, made from the OpenAPI description."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any


def docs_page(description: Mapping[str, Any]) -> str:
    """Format an OpenAPI description as HTML: operations with parameters and responses, then schemas."""
    info = description["info"]
    parts = [f"<h1>{_text(info['title'])} {_text(info['version'])}: REST interface</h1>", _prose(info)]
    parts.append('<p><a href="openapi.json">openapi.json</a> is machine-readable. <a href="./">Page</a></p>')
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            rows = [(each["name"], each["in"], _type(each["schema"]), each) for each in operation.get("parameters", ())]
            rows += [("body", "", kind, {}) for kind in operation.get("requestBody", {}).get("content", {})]
            for status, response in operation["responses"].items():
                contents = response.get("content", {"": {}}).items()
                rows += [(status, kind, _type(content.get("schema", {})), response) for kind, content in contents]
            parts += [f"<h2><code>{method.upper()} {_text(path)}</code></h2>", _prose(operation), _table(rows)]
    for name, schema in description["components"]["schemas"].items():
        rows = [(field, "", _type(value), value) for field, value in schema.get("properties", {}).items()]
        parts += [f"<h2>{_text(name)}</h2>", _prose(schema), _table(rows)]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>emodet: REST interface</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="style.css">'
        f'<body><main class="prose">{"".join(parts)}</main></body></html>'
    )


def _prose(described: Mapping[str, Any]) -> str:
    return "".join(f"<p>{_text(each)}</p>" for each in described.get("description", "").strip().split("\n\n"))


def _table(rows: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> str:
    """Format rows of three cells and an object with a description."""
    cells = ((*row, described.get("description", "")) for *row, described in rows)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in cells)
    return f'<div class="wide"><table>{lines}</table></div>'


def _type(schema: Mapping[str, Any]) -> str:
    """Summarise a JSON schema in a few words."""
    if "anyOf" in schema:
        kind = " or ".join(map(_type, schema["anyOf"]))
    elif "enum" in schema:
        kind = " or ".join(map(str, schema["enum"]))
    elif isinstance(schema.get("items"), dict):
        kind = f"list of {_type(schema['items'])}"
    else:
        kind = schema.get("type", schema.get("$ref", "").rpartition("/")[2])
    more = {"minimum": " from", "maximum": " to", "default": ", default"}
    return "".join([kind, *(f"{words} {schema[key]}" for key, words in more.items() if key in schema)])


def _text(value: object) -> str:
    """Escape a text; `words` in backticks become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(value)))

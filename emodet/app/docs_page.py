"""The REST interface for people, at /docs: plain HTML made from the OpenAPI description, without scripts."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["docs_page"]


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI description: operations with their parameters and answers, then the schemas."""
    info, schemas = description["info"], description["components"]["schemas"]
    parts = [
        f"<h1>{_text(info['title'])} {_text(info['version'])}: REST interface</h1>",
        *(f"<p>{_text(paragraph)}</p>" for paragraph in info["description"].strip().split("\n\n")),
        '<p><a href="openapi.json">openapi.json</a> is the same for programs. <a href="./">Page</a></p>',
    ]
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    parts.append("<h2>Schemas</h2>")
    for name, schema in schemas.items():
        required = schema.get("required", ())
        rows = [
            (field, _type(value), "required" if field in required else "", value.get("description", ""))
            for field, value in schema.get("properties", {}).items()
        ]
        parts += [f'<h3 id="{_text(name)}">{_text(name)}</h3>', f"<p>{_text(schema.get('description', ''))}</p>"]
        parts += _table(("field", "type", "", ""), rows)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>emodet: REST interface</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="style.css">'
        f'<body><main class="prose">{"".join(parts)}</main></body></html>'
    )


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{_text(title)}</code></h2>"
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    rows = []
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        kind = f"{_type(schema)}, default {schema['default']}" if "default" in schema else _type(schema)
        rows.append((parameter["name"], parameter["in"], kind, parameter.get("description", "")))
    yield from _table(("parameter", "in", "type", ""), rows)
    if body := operation.get("requestBody"):
        yield f"<p>Body: {_text(', '.join(body['content']))}</p>"
    answers = []
    for status, answer in operation["responses"].items():
        kinds = [f"{kind} {_type(value.get('schema', {}))}" for kind, value in answer.get("content", {}).items()]
        answers.append((status, answer["description"], ", ".join(kinds)))
    yield from _table(("status", "", "body"), answers)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield '<div class="wide"><table><thead><tr>'
        yield from (f"<th>{_text(cell)}</th>" for cell in head)
        yield "</tr></thead>"
        for row in rows:
            yield f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
        yield "</table></div>"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = f" {low} to {high}" if low is not None and high is not None else f" from {low}" if low is not None else ""
    return f"{schema.get('type', '')}{limits}"


def _text(value: object) -> str:
    """Escaped, with `words` in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(value)))

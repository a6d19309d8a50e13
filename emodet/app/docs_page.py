"""The REST interface for people, at /docs: plain HTML made from the OpenAPI description, without scripts."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI description: operations with their parameters and answers, then the schemas."""
    info = description["info"]
    parts = [f"<h1>{_text(info['title'])} {_text(info['version'])}: REST interface</h1>", *_prose(info["description"])]
    parts.append('<p><a href="openapi.json">openapi.json</a> is the same for programs. <a href="./">Page</a></p>')
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            parts += [f"<h2><code>{method.upper()} {_text(path)}</code></h2>", *_prose(operation["description"])]
            parts += _table([_parameter(each) for each in operation.get("parameters", ())])
            if body := operation.get("requestBody"):
                parts.append(f"<p>Body: {_text(', '.join(body['content']))}</p>")
            parts += _table([_answer(status, answer) for status, answer in operation["responses"].items()])
    for name, schema in description["components"]["schemas"].items():
        parts += [f"<h2>{_text(name)}</h2>", *_prose(schema.get("description", ""))]
        fields = schema.get("properties", {}).items()
        parts += _table([(field, _type(value), value.get("description", "")) for field, value in fields])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>emodet: REST interface</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="style.css">'
        f'<body><main class="prose">{"".join(parts)}</main></body></html>'
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    schema = parameter["schema"]
    kind = f"{_type(schema)}, default {schema['default']}" if "default" in schema else _type(schema)
    return parameter["name"], parameter["in"], kind, parameter.get("description", "")


def _answer(status: str, answer: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = [f"{kind} {_type(value.get('schema', {}))}" for kind, value in answer.get("content", {}).items()]
    return status, answer["description"], ", ".join(kinds)


def _prose(text: str) -> Iterator[str]:
    yield from (f"<p>{_text(paragraph)}</p>" for paragraph in text.strip().split("\n\n"))


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
        yield f'<div class="wide"><table>{lines}</table></div>'


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a word or two."""
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = f" {low} to {high}" if low is not None and high is not None else f" from {low}" if low is not None else ""
    return f"{schema.get('type', schema.get('$ref', '').rpartition('/')[2])}{limits}"


def _text(value: object) -> str:
    """Escaped, with `words` in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(value)))

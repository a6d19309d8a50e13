"""POST /v1/recognize and /v1/annotate, and the models."""

import base64

import cv2
import numpy as np
import pytest
from made_files import encoded, png_bomb
from made_server import refusal
from model_stub import write_stub
from skimage import data

from emodet.app.settings import Limits
from emodet.images import decode_rgb
from emodet.inference.recognizer import Recognizer

GREY = np.full((64, 64, 3), 127, dtype=np.uint8)
OWN = ("bored", "engaged", "happy")


def test_answers_equal_those_of_the_recognizer(client, portrait):
    answer = client.post("/v1/recognize", content=portrait)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    found = answer.json()
    (face,) = Recognizer(detector="centerface", threads=1)(decode_rgb(portrait))
    (one,) = found["faces"]
    assert [found[key] for key in ("width", "height", "model", "detector")] == [512, 512, "emodet-int8", "centerface"]
    assert one["box"] == pytest.approx(face.box, abs=0.01)
    assert one["emotion"] == one["most_probable"] == face.emotion
    assert one["uncertain"] is False
    assert one["probabilities"] == pytest.approx(dict(face.probabilities), abs=1e-6)
    assert list(one["probabilities"]) == list(face.probabilities)
    assert one["confidence"] == pytest.approx(face.confidence, abs=1e-6)
    assert list(one["landmarks"].values()) == [pytest.approx(point, abs=0.01) for point in face.landmarks]


def test_images_are_sent_as_a_form_or_as_a_body_of_any_type(client, portrait):
    plain = client.post("/v1/recognize", content=portrait).json()["faces"]
    form = client.post("/v1/recognize", files={"whatever": ("../../etc/passwd", portrait, "text/html")})
    more = client.post("/v1/recognize", data={"note": "x" * 100}, files={"file": ("p", portrait)})
    assert form.json()["faces"] == more.json()["faces"] == plain
    for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded", "video/mp4", "nonsense"):
        assert client.post("/v1/recognize", content=portrait, headers={"Content-Type": kind}).json()["faces"] == plain


def test_options_and_heat_maps(client, portrait):
    certain = client.post("/v1/recognize?min_confidence=1", content=portrait).json()["faces"][0]
    assert (certain["emotion"], certain["uncertain"], certain["most_probable"]) == ("uncertain", True, "happiness")
    two = encoded(np.concatenate([data.astronaut()[:256, 96:352]] * 2, axis=1))
    assert len(client.post("/v1/recognize", content=two).json()["faces"]) == 2
    assert len(client.post("/v1/recognize?max_faces=1", content=two).json()["faces"]) == 1
    whole = client.post("/v1/recognize?detector=none&model=emodet-fp32", content=encoded(GREY)).json()
    assert (whole["model"], whole["detector"], whole["faces"][0]["box"]) == ("emodet-fp32", "none", [0, 0, 64, 64])
    assert whole["faces"][0]["landmarks"] is None
    assert client.post("/v1/recognize", content=encoded(GREY)).json()["faces"] == []
    face = client.post("/v1/recognize?heat_maps=1", content=portrait).json()["faces"][0]
    heat = face["heat_map"]
    assert heat["emotion"] == face["most_probable"]
    assert len(heat["values"]) == heat["size"] ** 2
    assert max(heat["values"]) > 0.1
    kind, _, text = heat["crop"].partition(",")
    assert kind == "data:image/png;base64"
    assert decode_rgb(base64.b64decode(text)).shape == (heat["size"], heat["size"], 3)


def test_annotated_images(client, portrait):
    answer = client.post("/v1/annotate", content=portrait)
    assert answer.headers["content-type"] == "image/jpeg"
    drawn, plain = decode_rgb(answer.content).astype(int), decode_rgb(portrait).astype(int)
    blurred = decode_rgb(client.post("/v1/annotate?blur_faces=true", content=portrait).content).astype(int)
    face = np.s_[85:150, 200:250]
    assert np.abs(drawn - plain)[face].mean() < 8
    assert np.abs(blurred - plain)[face].mean() > 20
    assert np.abs(drawn - plain).max() > 100
    two = np.concatenate([data.astronaut()[:256, 96:352]] * 2, axis=1)
    both = decode_rgb(client.post("/v1/annotate?blur_faces=true&max_faces=1", content=encoded(two)).content).astype(int)
    for half in (np.s_[85:150, 104:154], np.s_[85:150, 360:410]):
        assert np.abs(both - two)[half].mean() > 20
    refusal(client.post("/v1/annotate", content=b"no"), 422, "picture_unreadable")
    refusal(client.post("/v1/annotate?heat_maps=1", content=portrait), 422, "bad_value")


def test_unreadable_and_large_images(client, portrait, serve):
    refusal(client.post("/v1/recognize", content=b""), 400, "bad_request")
    for content in (b"x", b"\xff\xd8\xff", portrait[:3000], b"<!doctype html><script>alert(1)</script>", bytes(5000)):
        message = refusal(client.post("/v1/recognize", content=content), 422, "picture_unreadable")
        assert "/" not in message  # no path of this machine
    refusal(client.post("/v1/recognize", content=encoded(GREY[:4])), 422, "picture_too_small")
    for size in ((30_000, 30_000), (2**31 - 1, 2**31 - 1), (7000, 7000)):
        message = refusal(client.post("/v1/recognize", content=png_bomb(*size)), 422, "too_many_pixels")
        assert "40,000,000" in message
    with serve(limits=Limits(image_bytes=50_000)) as client:
        refusal(client.post("/v1/recognize", content=portrait), 413, "too_large")
        refusal(client.post("/v1/recognize", content=iter([portrait] * 3)), 413, "too_large")  # without a length
        refusal(client.post("/v1/recognize", files={"file": portrait * 3}), 413, "too_large")
        small = encoded(cv2.resize(data.astronaut(), (256, 256)), "JPEG")
        assert client.post("/v1/recognize", content=small).status_code == 200


def test_decoding_has_a_time_limit(serve):
    slow = encoded(np.random.default_rng(0).integers(0, 256, (2500, 2500, 3), dtype=np.uint8))
    with serve(limits=Limits(decode_seconds=0.01)) as client:
        for _ in range(2):  # the second in a process of its own: the first was killed
            message = refusal(client.post("/v1/recognize", content=slow), 422, "picture_unreadable")
            assert "0.01 seconds" in message


def test_the_prior(serve, tmp_path, portrait):
    own = write_stub(tmp_path / "own.onnx", class_names=OWN)
    fair = write_stub(tmp_path / "fair.onnx", class_shares=(0.4, 0.3, 0.1, 0.1, 0.04, 0.02, 0.03, 0.01))
    with serve(models=(str(own), str(fair))) as client:
        answer = client.post("/v1/recognize?prior=balanced&model=fair", content=portrait)
        message = refusal(client.post("/v1/recognize?prior=balanced", content=portrait), 422, "bad_value")
    assert "own lacks the class shares" in message
    (face,), (other,) = (
        Recognizer(fair, detector="centerface", threads=1, prior=prior)(decode_rgb(portrait))
        for prior in ("balanced", "trained")
    )
    found = answer.json()["faces"][0]["probabilities"]
    assert found == pytest.approx(dict(face.probabilities), abs=1e-6)
    assert found["contempt"] > other.probabilities["contempt"]


@pytest.mark.parametrize(
    "query",
    [
        "prior=uniform",
        *("min_confidence=2", "min_confidence=nan", "min_confidence=x", "max_faces=0", "max_faces=1.5", "heat_maps=9"),
        *("detector=haar", "detector=yunet:/etc/passwd", "min_confidense=0.5", "blur_faces=true", "model=" + "x" * 100),
    ],
)
def test_invalid_parameters(client, portrait, query):
    refusal(client.post(f"/v1/recognize?{query}", content=portrait), 422, "bad_value")


def test_invalid_forms(client, portrait):
    def send(content, kind="multipart/form-data; boundary=b"):
        return client.post("/v1/recognize", content=content, headers={"Content-Type": kind})

    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + portrait
    assert send(part + b"\r\n--b--\r\n").status_code == 200
    refusal(send(part), 400, "bad_request")  # truncated
    refusal(send(part + b"\r\n" + part + b"\r\n--b--\r\n"), 400, "bad_request")  # two files
    refusal(send(b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--b--\r\n'), 400, "bad_request")
    refusal(send(part, "multipart/form-data"), 400, "bad_request")
    refusal(send(b"rubbish"), 400, "bad_request")
    refusal(send(part.replace(b"Content", b"C\0ntent")), 400, "bad_request")


def test_models(client, portrait):
    assert client.get("/v1/models").json() == {
        "default": "emodet-int8",
        "models": ["emodet-int8", "emodet-accurate-int8", "emodet-fp32"],
    }
    model = client.get("/v1/model").json()
    about = Recognizer(detector="none", threads=1).model.info
    assert [each["name"] for each in model["classes"]] == list(about.class_names)
    assert model["metrics"] == {split: dict(values) for split, values in about.metrics.items()}
    assert model["preprocessing"] == about.preprocessing.to_dict()
    assert model["training_data"][0]["terms"] == about.training_data[0].terms
    assert "Article 5(1)(f)" in model["card"]
    assert client.get("/v1/model?model=emodet-fp32").json()["precision"] == "fp32"
    file = client.get("/v1/models/emodet-int8.onnx")
    assert len(file.content) == model["bytes"]
    again = client.get("/v1/models/emodet-int8.onnx", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("nix", "", "../../etc/passwd", "/etc/passwd", "emodet-int8.onnx", "int8", "."):
        message = refusal(client.post(f"/v1/recognize?model={name}", content=portrait), 404, "not_found")
        assert "There are emodet-int8, emodet-accurate-int8, emodet-fp32." in message
    refusal(client.post("/v1/recognize?detector=yunet", content=portrait), 404, "not_found")


def test_own_model_files(serve, tmp_path, portrait):
    path = write_stub(tmp_path / "mine.onnx", valence_arousal=True)
    own = write_stub(tmp_path / "own.onnx", class_names=OWN)
    with serve(models=(str(path), f"other={path}", "int8", f"own={own}")) as client:
        assert client.get("/v1/models").json() == {"default": "mine", "models": ["mine", "other", "emodet-int8", "own"]}
        assert client.get("/v1/model").json()["card"] is None
        answer = client.post("/v1/recognize?model=other", content=portrait).json()
        (face,) = answer["faces"]
        assert answer["model"] == "other"
        assert -1 <= face["valence"] <= 1
        assert -1 <= face["arousal"] <= 1
        classes = client.get("/v1/model?model=own").json()["classes"]
        assert [(each["id"], each["name"]) for each in classes] == list(enumerate(OWN))
        (face,) = client.post("/v1/recognize?model=own", content=portrait).json()["faces"]
        assert tuple(face["probabilities"]) == OWN

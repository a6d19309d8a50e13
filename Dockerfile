# The page and the REST interface. Build after `make page`:  docker build -t emodet .
#   docker run --rm -p 127.0.0.1:8000:8000 -e EMODET_TOKEN=secret emodet      then http://127.0.0.1:8000/?token=secret
FROM python:3.12-slim
# What opencv-python links against.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip install --no-cache-dir '/source[app]' && rm -rf /source && useradd --create-home emodet
USER emodet
WORKDIR /home/emodet
EXPOSE 8000
CMD ["emodet", "app", "--host", "0.0.0.0"]

# The page and the REST interface:  docker build -t emodet .
#   docker run --rm -p 127.0.0.1:8000:8000 -e EMODET_TOKEN=choose-your-own emodet
# then http://127.0.0.1:8000/?token=choose-your-own
FROM node:22-slim AS page
COPY emodet/app/page /page
WORKDIR /page
# As `make page` does.
RUN npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent build

FROM python:3.12-slim
# What opencv-python links against.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /source
COPY --from=page /page/runtime /source/emodet/app/page/runtime
RUN pip install --no-cache-dir -c /source/pins.txt '/source[app]' && rm -rf /source && useradd --create-home emodet
USER emodet
WORKDIR /home/emodet
EXPOSE 8000
CMD ["emodet", "app", "--host", "0.0.0.0"]

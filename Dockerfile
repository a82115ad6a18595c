# One image, many commands: `docker run vitalgate gateway`, `… worker intake`, as docker-compose.yml does.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/vitalgate \
 && /opt/vitalgate/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY vitalgate ./vitalgate
RUN /opt/vitalgate/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/vitalgate --create-home vitalgate \
 && install -d -o vitalgate /var/lib/vitalgate/anchors /var/lib/vitalgate/files
COPY --from=build /opt/vitalgate /opt/vitalgate
ENV PATH=/opt/vitalgate/bin:$PATH PYTHONUNBUFFERED=1 VITALGATE_HEALTH_HOST=0.0.0.0 VITALGATE_HEALTH_PORT=9100
USER vitalgate
WORKDIR /var/lib/vitalgate
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9100/healthz', timeout=2)"]
ENTRYPOINT ["vitalgate"]
CMD ["--help"]

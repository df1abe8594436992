#!/bin/sh
# Starts Kafka as the official image does: KAFKA_A_B in the environment is the
# setting a.b; the storage is formatted once.
set -eu
settings=/tmp/server.properties
env | sed -n '/^KAFKA_HEAP_OPTS=/d; s/^KAFKA_//p' | while IFS='=' read -r name value; do
    echo "$(echo "$name" | tr 'A-Z_' 'a-z.')=$value"
done >"$settings"
if [ ! -e "${KAFKA_LOG_DIRS:-/tmp/kafka-logs}/meta.properties" ]; then
    java -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format -t 5L6g3nShT-eMCtK--X86sw -c "$settings"
fi
exec java ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' kafka.Kafka "$settings"

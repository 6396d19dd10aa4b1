import hmac
import hashlib
import time
import json

def verify_webhook_signature(payload, signature, secret):
    parts = signature.split(',')
    timestamp = int(parts[0].split('=')[1])
    signature_hash = parts[1].split('=')[1]

    # Check timestamp
    now = int(time.time())
    if abs(now - timestamp) > 300:  # 5 minutes
        raise ValueError('Webhook timestamp too old')

    # Compute expected signature
    signed_payload = f"{timestamp}.{json.dumps(payload, separators=(',', ':'))}"
    expected_hash = hmac.new(
        secret.encode(),
        signed_payload.encode(),
        hashlib.sha256
    ).hexdigest()

    # Compare signatures
    if not hmac.compare_digest(signature_hash, expected_hash):
        raise ValueError('Invalid webhook signature')

    return True

# Flask example
from flask import Flask, request, jsonify

app = Flask(__name__)

@app.route('/webhooks/quub', methods=['POST'])
def handle_webhook():
    signature = request.headers.get('X-Quub-Signature')
    secret = os.environ['WEBHOOK_SECRET']

    try:
        verify_webhook_signature(request.json, signature, secret)

        # Process webhook
        event_type = request.json['eventType']
        data = request.json['data']
        handle_webhook_event(event_type, data)

        return jsonify({'received': True}), 200
    except Exception as e:
        return jsonify({'error': str(e)}), 400

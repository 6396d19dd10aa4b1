async function handleWebhookEvent(eventType, data) {
  try {
    switch (eventType) {
      case "order.filled":
        await handleOrderFilled(data);
        break;
      case "deposit.completed":
        await handleDepositCompleted(data);
        break;
      default:
        console.log("Unhandled event type:", eventType);
    }
  } catch (error) {
    console.error("Error processing webhook:", error);
    // Log to monitoring service
    await logError(error);
  }
}

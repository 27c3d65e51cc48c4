// Seals or opens one message with the JavaScript SDK: JSON on standard input, JSON on standard output.
'use strict'

const sdk = require('@aws-crypto/client-node')

function keyring (asked) {
  const { KMS } = require('@aws-sdk/client-kms')
  const clientProvider = (region) => new KMS({ region, endpoint: asked.endpoint, maxAttempts: 1 })
  if (asked.mrk_aware) {
    return new sdk.AwsKmsMrkAwareSymmetricKeyringNode({ client: clientProvider(asked.region), keyId: asked.key_arn })
  }
  return new sdk.KmsKeyringNode({ clientProvider, generatorKeyId: asked.key_arn })
}

async function main () {
  const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'))
  const client = sdk.buildClient(sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
  const source = Buffer.from(asked.source, 'base64')
  if (asked.operation === 'encrypt') {
    const { result } = await client.encrypt(keyring(asked), source, { encryptionContext: asked.context })
    return { result: result.toString('base64') }
  }
  const { plaintext, messageHeader } = await client.decrypt(keyring(asked), source)
  for (const [key, value] of Object.entries(asked.context)) {
    if (messageHeader.encryptionContext[key] !== value) throw new Error('another context')
  }
  return { result: plaintext.toString('base64') }
}

main().then((answer) => process.stdout.write(JSON.stringify(answer)), (error) => {
  process.stderr.write(`${error.stack}\n`)
  process.exitCode = 1
})

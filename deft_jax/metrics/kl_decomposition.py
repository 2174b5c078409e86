"""What the mean KL of a sample consists of: mutual information, total correlation, dimension-wise KL."""

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior, log_density, reparameterise


def information(posterior: Posterior, noise: jax.Array, num_images: int) -> dict[str, jax.Array]:
    """What the mean KL of a sample is made of, in nats (Chen et al. 2018, eq. 2): KL = I + TC + dimension-wise KL.

    posterior: of M images drawn from num_images. noise: [M, D] from N(0, 1), one z an image. The aggregate posterior
    q(z) is estimated from the same M images, which is where the bias comes from:

    'mutual_information': I(x; z) with q(z) the plain mean over the M posteriors: in expectation a lower bound of I
      that cannot pass log M (Poole et al. 2019, eq. 10).
    'mutual_information_upper': with q(z) of minibatch stratified sampling (Chen et al. 2018, appendix C.2), whose
      expectation is q(z) itself; by Jensen an upper bound in expectation, at most log num_images.
    'total_correlation', 'dimension_wise_kl': from the plain mean as well; with 'mutual_information' they add up to
      the KL of the sampled z, log q(z|x) - log p(z), exactly. Once I nears log M, what I lacks appears here.
    'dimension_wise_kl_per_latent': [D].
    """
    count = posterior.mean.shape[0]
    z_MxD = reparameterise(posterior, noise)

    def aggregate(z_D, index):
        """log q(z) and log q(z_d) as seen from z_D, and log q(z) with the image of this index weighed apart."""
        log_q_MxD = log_density(z_D, posterior)
        log_q_M = jnp.sum(log_q_MxD, axis=1)
        plain = jax.nn.logsumexp(log_q_M) - jnp.log(count)
        marginals_D = jax.nn.logsumexp(log_q_MxD, axis=0) - jnp.log(count)
        own = -jnp.log(num_images)
        others = jnp.log1p(-1.0 / num_images) - jnp.log(count - 1)
        return plain, marginals_D, jax.nn.logsumexp(log_q_M + jnp.where(jnp.arange(count) == index, own, others))

    pairs = (z_MxD, jnp.arange(count))
    plain_M, marginals_MxD, stratified_M = jax.lax.map(lambda pair: aggregate(*pair), pairs, batch_size=64)
    own_M = jnp.sum(log_density(z_MxD, posterior), axis=1)
    prior_MxD = log_density(z_MxD, Posterior(jnp.zeros(()), jnp.zeros(())))
    per_latent = jnp.mean(marginals_MxD - prior_MxD, axis=0)
    return {
        "mutual_information": jnp.mean(own_M - plain_M),
        "mutual_information_upper": jnp.mean(own_M - stratified_M),
        "total_correlation": jnp.mean(plain_M - jnp.sum(marginals_MxD, axis=1)),
        "dimension_wise_kl": jnp.sum(per_latent),
        "dimension_wise_kl_per_latent": per_latent,
    }

"""The terms of the mean KL of a sample: mutual information, total correlation, dimension-wise KL."""

import jax
import jax.numpy as jnp

from deft_jax.models.posterior import Posterior, log_density, reparameterise


def information(posterior: Posterior, noise: jax.Array, num_images: int) -> dict[str, jax.Array]:
    """Splits the mean KL of a sample as KL = I(x; z) + TC + dimension-wise KL, in nats.

    Source: Chen et al. 2018 (arXiv 1802.04942), eq. 2. The aggregate posterior q(z) is estimated from the same M
    images, which causes the bias.

    Args:
      posterior: of M images drawn from num_images.
      noise: [M, D] from N(0, 1), one z per image.
      num_images: images in the data set.

    Returns:
      'mutual_information': I(x; z) with q(z) the plain mean of the M posteriors. In expectation it is a lower bound of
        I, at most log M (Poole et al. 2019, eq. 10).
      'mutual_information_upper': I(x; z) with q(z) from minibatch stratified sampling (Chen et al. 2018, appendix C.2),
        whose expectation is q(z). By Jensen it is an upper bound in expectation, at most log num_images.
      'total_correlation', 'dimension_wise_kl': from the plain mean. With 'mutual_information' they add up exactly to
        the KL of the sampled z, log q(z|x) - log p(z). Where I is near log M, they contain the rest of I.
      'dimension_wise_kl_per_latent': [D].

    Example:
      >>> prior = Posterior(mean=jnp.zeros((4, 2)), logvar=jnp.zeros((4, 2)))
      >>> terms = information(prior, jnp.zeros((4, 2)), num_images=4)
      >>> float(terms["mutual_information"]), float(terms["total_correlation"])
      (0.0, 0.0)
    """
    count = posterior.mean.shape[0]
    z_MxD = reparameterise(posterior, noise)

    def aggregate(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """log q(z) and log q(z_d) at z_D, and log q(z) with stratified weights for the image of this index."""
        z_D, index = pair
        log_q_MxD = log_density(z_D, posterior)
        log_q_M = jnp.sum(log_q_MxD, axis=1)
        plain = jax.nn.logsumexp(log_q_M) - jnp.log(count)
        marginals_D = jax.nn.logsumexp(log_q_MxD, axis=0) - jnp.log(count)
        same_weight = -jnp.log(num_images)
        other_weight = jnp.log1p(-1.0 / num_images) - jnp.log(count - 1)
        weights_M = jnp.where(jnp.arange(count) == index, same_weight, other_weight)
        return plain, marginals_D, jax.nn.logsumexp(log_q_M + weights_M)

    pairs = (z_MxD, jnp.arange(count))
    plain_M, marginals_MxD, stratified_M = jax.lax.map(aggregate, pairs, batch_size=64)
    conditional_M = jnp.sum(log_density(z_MxD, posterior), axis=1)
    prior_MxD = log_density(z_MxD, Posterior(jnp.zeros(()), jnp.zeros(())))
    per_latent = jnp.mean(marginals_MxD - prior_MxD, axis=0)
    return {
        "mutual_information": jnp.mean(conditional_M - plain_M),
        "mutual_information_upper": jnp.mean(conditional_M - stratified_M),
        "total_correlation": jnp.mean(plain_M - jnp.sum(marginals_MxD, axis=1)),
        "dimension_wise_kl": jnp.sum(per_latent),
        "dimension_wise_kl_per_latent": per_latent,
    }
